/* The answer: the five most likely classes as bars, and in words, also what is odd about the picture. */
"use strict";

(() => {
  const { h, best, percent, wholePercent } = vggThink;
  const SHOWN = 5; // classes
  const WHOLE = 0.995; // from this share on, nothing of the object is said to be cut off

  class Answer {
    constructor(instrument) {
      this.instrument = instrument;
      this.net = instrument.net;
      this.bars = h("ol", { class: "think-answer", "aria-label": "the five most likely classes" });
      this.status = h("p", { class: "think-status", role: "status" });
      this.odd = h("p", { class: "think-strange", "aria-live": "polite" });
      this.node = h("div", { class: "think-said" }, this.bars, h("div", {}, this.status, this.odd, ...this.about()));
    }

    /** The net's note and its classes. */
    about() {
      const { name, note, classes } = this.net;
      return [
        h("p", { class: "think-net" }, `${name}: ${note || "no note"}`),
        h("details", {},
          h("summary", {}, `The ${classes.length} classes`),
          h("p", { class: "think-classes" }, classes.join(", "))),
      ];
    }

    say(text) {
      this.status.textContent = text;
    }

    show(posterior, rest) {
      const inside = this.instrument.scene.inside();
      this.showBars(posterior, inside > 0 ? this.label() : -1);
      this.odd.textContent = [this.unknown(), this.cutOff(inside)].filter(Boolean).join(" ");
      const top = best(posterior);
      this.say(`The net says ${this.net.classes[top]}, ${percent(posterior[top])}. ${rest}`);
    }

    showBars(posterior, label) {
      const order = posterior.map((share, index) => ({ share, index })).sort((a, b) => b.share - a.share);
      const bar = ({ share, index }) => {
        const right = index === label;
        return h("li", { class: right ? "right" : null },
          h("span", { class: "think-name" }, this.net.classes[index] + (right ? " (true)" : "")),
          h("span", { class: "think-bar", "aria-hidden": "true" }, h("span", { style: `width:${100 * share}%` })),
          h("span", { class: "think-share" }, percent(share)));
      };
      this.bars.replaceChildren(...order.slice(0, SHOWN).map(bar));
    }

    /** The object's class; -1 where it is none of the net's. */
    label() {
      const { scene } = this.instrument;
      return this.instrument.ofTheSet() ? this.net.classes.indexOf(scene.className()) : -1;
    }

    /** What is to be said of an object that is no class. */
    unknown() {
      if (!this.instrument.ofTheSet() || this.label() >= 0) return "";
      const name = this.instrument.scene.className();
      return `There is no class ${name}: the net knows only its ${this.net.classes.length}, and answers all the same.`;
    }

    /** What is to be said of an object of which only a share lies inside. */
    cutOff(inside) {
      if (inside === 0) {
        return "The object lies outside: the net sees the ground alone, and answers all the same. "
          + "A press in the picture brings the object back.";
      }
      if (inside > WHOLE) return "";
      return `${wholePercent(inside)} of the object lies in the picture. `
        + "The net never sees the rest: beyond the border its convolutions read zeros.";
    }
  }

  Object.assign(vggThink, { Answer });
})();
