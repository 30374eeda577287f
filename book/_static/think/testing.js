/* The testing view: a picture larger than the training crops, answered by dense evaluation, the centre crop and the fifty crops
 * (Section 3.2). scoremap.js shows the scores of dense evaluation.
 */
"use strict";

(() => {
  const { h, field, sliding, head, underWay, best, percent, squared, millions, View, views, ScoreMap } = vggThink;
  const LARGEST = 512 / 224; // the paper's largest test scale, in crops
  const METHODS = ["centre", "dense", "crops"]; // in this order, a row each

  views.testing = class extends View {
    static title = "Testing";

    constructor(instrument) {
      super(instrument);
      this.crop = this.side; // from now on, side is Q
      this.scores = new ScoreMap(this);
      this.found = {}; // what the methods say of a picture, by method
      this.turn = -1; // the picture's
    }

    lay() {
      this.scores.lay();
      const { tiles, hand, told, resolution } = this.scores;
      return { asked: this.layQuestions(), beside: [tiles, hand], below: [told, resolution], panel: this.layMethods() };
    }

    /** The picture's side Q, the class whose scores are shown, and whether they lie over the picture. */
    layQuestions() {
      const sides = { min: this.crop, max: Math.round(LARGEST * this.crop), step: 1, value: this.side };
      const q = sliding("Q, the picture's side", sides, (value) => `${value} pixels`, (value) => this.resize(value));
      const names = ["the answer", ...this.net.classes];
      const options = names.map((name, i) => h("option", { value: i - 1, selected: i - 1 === this.scores.about }, name));
      const of = h("select", { onchange: () => this.showScoresOf(Number(of.value)) }, options);
      this.over = h("input", { type: "checkbox", checked: true, onchange: () => this.instrument.draw() });
      return [q.node, field("Scores of", of), h("div", { class: "think-field" }, h("label", {}, this.over, " map over the picture"))];
    }

    layMethods() {
      this.rows = h("tbody", {});
      this.button = h("button", { type: "button", onclick: () => this.tryCrops() }, "Try the 50 crops too");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "crops" });
      const text = `The net was trained on crops of ${this.crop} pixels. A larger picture gives a map of answers, one a position; `
        + "their mean is the dense answer. Dense is often less sure here than the centre crop: the crop's window is filled with the "
        + "object, while dense averages over all positions, and those at the picture's border hold less of it.";
      return [
        h("table", { class: "think-parts" }, head("method", "answer", "sure", "work"), this.rows),
        h("div", { class: "think-row" }, this.button, this.progress),
        h("p", {}, text),
      ];
    }

    resize(side) {
      this.side = side;
      this.scores.map = null; // that of another size
      this.instrument.refresh();
    }

    showScoresOf(about) {
      this.scores.about = about;
      this.scores.show();
    }

    async answer(picture) {
      const { turn } = this.instrument;
      const { result: dense, ms } = await this.ask("dense", { picture });
      const { result: centre } = await this.ask("centre", { picture });
      if (turn !== this.instrument.turn) return;
      const { rows, columns } = dense;
      this.note(turn, {
        centre: { method: "centre crop", ...centre },
        dense: { method: `dense, ${squared(rows, columns)} positions`, ...dense },
      });
      this.instrument.conclude(dense.posterior,
        `The map has ${rows} by ${columns} positions; dense evaluation took ${Math.round(ms)} ms.`);
      const { field: seen } = this.net.layers.find(({ kind }) => kind === "fc");
      this.scores.show({ ...dense, q: picture.w, jump: seen.jump, field: seen.size });
    }

    /** What methods say of the picture of a turn. */
    note(turn, found) {
      this.found = turn === this.turn ? { ...this.found, ...found } : found;
      this.turn = turn;
      this.rows.replaceChildren(...METHODS.filter((name) => this.found[name]).map((name) => this.row(this.found[name])));
    }

    row({ method, posterior, macs }) {
      const top = best(posterior);
      return h("tr", {},
        h("th", { scope: "row" }, method),
        h("td", {}, this.net.classes[top]),
        h("td", {}, percent(posterior[top])),
        h("td", {}, millions(macs)));
    }

    tryCrops() {
      const { turn } = this.instrument;
      const picture = this.instrument.scene.paint(this.side);
      const { progress } = this;
      underWay(this.button, progress, async () => {
        const { result, ms } = await this.ask("crops", { picture }, (share) => {
          progress.value = share;
        });
        if (turn !== this.instrument.turn) return;
        this.note(turn, { crops: { method: "50 crops", ...result } });
        this.instrument.say(`The 50 crops took ${(ms / 1000).toFixed(1)} seconds.`);
      }).catch((error) => this.instrument.say(error.message));
    }

    // ---- the picture

    shown(picture) {
      return this.scores.map && this.over.checked ? this.scores.overlaid(picture) : picture;
    }

    draw(pen, side) {
      if (this.scores.map) this.scores.draw(pen, side);
    }

    pointedAt(place) {
      this.scores.pointedAt(place);
    }
  };
})();
