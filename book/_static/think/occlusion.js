/* The occlusion view: a grey patch on the picture, and how sure the net still is with the patch at each of 9 x 9 places. */
"use strict";

(() => {
  const { h, sliding, underWay, best, percent, squared, frame, frameSquare, GREY, View, views } = vggThink;
  const PLACES = 9; // of a sweep, along each side

  /** Row and column of the smallest value of a table, and the value. */
  function lowest(table) {
    const values = table.flat();
    const value = Math.min(...values);
    const at = values.indexOf(value);
    return { value, row: Math.floor(at / PLACES), column: at % PLACES };
  }

  views.occlusion = class extends View {
    static title = "Occlusion";

    constructor(instrument) {
      super(instrument);
      this.patch = instrument.patch;
      this.swept = null; // what a sweep found; `lifted` until the patch is moved
    }

    lay() {
      this.swept = null;
      this.button = h("button", { type: "button", onclick: () => this.sweep() }, "Sweep the whole picture");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "sweep" });
      this.scale = h("p", { class: "think-scale", hidden: true });
      const size = { min: 0.04, max: 0.3, step: 0.01, value: this.patch.half };
      const words = (half) => `${Math.round(200 * half)} % of the side`;
      const half = sliding("Patch", size, words, (value) => {
        this.patch.half = value;
        this.instrument.edited();
      });
      const text = "A grey patch lies on the picture. Drag it, and watch what the net loses when it covers the part "
        + `that matters. A sweep tries ${squared(PLACES, PLACES)} places, and lifts the patch until you move it.`;
      return {
        asked: [half.node, this.button, this.progress],
        beside: [h("p", { class: "think-text" }, text)],
        below: [this.scale],
        panel: [],
      };
    }

    strokes() {
      return this.swept?.lifted ? [] : [{ ...this.patch, colour: GREY }];
    }

    held() {
      const { x, y, half } = this.patch;
      return {
        x, y, reach: half, under: (at) => Math.max(Math.abs(at.x - x), Math.abs(at.y - y)) <= half,
        move: (to) => {
          Object.assign(this.patch, to);
          if (this.swept) this.swept.lifted = false; // the patch lies on the picture again
          this.instrument.refresh();
        },
        caption: "Drag the patch, or move it with the arrow keys.",
        keys: "move the patch",
      };
    }

    async answer(picture) {
      const { result, ms } = await this.ask("ask", { pictures: [picture] });
      if (this.instrument.view === this) this.instrument.conclude(result[0], `One pass took ${Math.round(ms)} ms.`);
    }

    edited() {
      this.swept = null;
    }

    // ---- the sweep

    /** The posterior of what the picture shows, with the patch at each place; given up when the picture changes. */
    sweep() {
      const { turn } = this.instrument;
      const current = () => turn === this.instrument.turn;
      underWay(this.button, this.progress, async () => {
        const clear = (await this.ask("ask", { pictures: [this.instrument.scene.paint(this.side)] })).result[0];
        const top = best(clear);
        const shares = [];
        while (shares.length < PLACES && current()) {
          shares.push(await this.sharesOfRow(shares.length, top));
          this.progress.value = shares.length / PLACES;
        }
        if (current()) this.conclude(clear, top, shares);
      }).catch((error) => this.instrument.say(error.message));
    }

    /** How sure the net is of a class, with the patch at each place of a row. */
    async sharesOfRow(row, c) {
      const pictures = Array.from({ length: PLACES }, (_, column) => {
        const place = { x: (column + 0.5) / PLACES, y: (row + 0.5) / PLACES };
        return this.instrument.scene.paint(this.side, [{ ...this.patch, ...place, colour: GREY }]);
      });
      return (await this.ask("ask", { pictures })).result.map((posterior) => posterior[c]);
    }

    conclude(clear, top, shares) {
      const worst = lowest(shares);
      const name = this.net.classes[top];
      this.swept = { shares, clear: clear[top], worst, lifted: true };
      const place = `row ${worst.row}, column ${worst.column} of the ${squared(PLACES, PLACES)}, counted from 0`;
      this.instrument.conclude(clear, `That is without a patch. The worst place for the patch's middle, framed, is ${place}: `
        + `${name} falls to ${percent(worst.value)}.`);
      this.scale.replaceChildren(
        `${name} with the patch there: ${percent(clear[top])} `,
        h("span", { class: "think-ramp", "aria-hidden": "true" }),
        " 0 %. The darker the orange, the more is lost.");
      this.instrument.paint();
    }

    // ---- drawing

    draw(pen, side) {
      this.scale.hidden = !this.swept;
      if (this.swept) this.drawSwept(pen, side);
      if (!this.swept?.lifted) frameSquare(pen, side, this.patch);
    }

    /** The occlusion map: the more the patch takes at a place, the darker. */
    drawSwept(pen, side) {
      const { shares, clear, worst } = this.swept;
      const cell = side / PLACES;
      shares.forEach((line, row) => line.forEach((share, column) => {
        pen.fillStyle = `rgba(213, 94, 0, ${Math.max(0, 0.8 * (1 - share / clear))})`;
        pen.fillRect(column * cell, row * cell, cell, cell);
      }));
      frame(pen, worst.column * cell + 2, worst.row * cell + 2, cell - 4, cell - 4);
    }
  };
})();
