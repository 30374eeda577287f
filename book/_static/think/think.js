/* "See it think": a trained miniature computes in the page, in a worker, what a picture becomes.
 *
 * Every <div class="think" data-view="layers occlusion testing"> becomes an instrument; its own text is what stands there without
 * JavaScript. This file holds the instrument: it brings the net, the picture, the reader's hand and the chosen view together. The others,
 * one idea each, in the order in which tools/interactive.py loads them:
 *
 *   net.js        computes a net, of the parts shapes.js, reading.js, forward.js, protocols.js (dense evaluation, crops) and unit.js
 *   scenes.js     the numbers of a few pictures; scene.js draws a picture from them
 *   numbers.js    numbers in words; begins vggThink, the object that all files from here on share
 *   elements.js   elements of the page
 *   drawing.js    pixels, frames, dots
 *   worker.js     questions to net.js, which computes beside the page
 *   nets.js       the book's net, or one from the reader's file
 *   edits.js      the picture that the reader makes of a scene
 *   hand.js       pointer and keys on the picture
 *   controls.js   the fold "Change the picture"
 *   answer.js     the five likeliest classes, and what is said
 *   view.js       what a view is
 *
 * and after this one, of the views, those that the page shows:
 *
 *   layers.js     one layer and one unit; units.js draws them, sum.js writes the unit's sum
 *   occlusion.js  the grey patch
 *   testing.js    dense evaluation beside crops; scoremap.js shows the scores
 *
 * net-D.js holds the net and is loaded when the reader asks for it.
 */
"use strict";

(() => {
  const { h, bitmap, fresh, trained, OwnNet, EditedScene, Hand, SceneControls, Answer, views } = vggThink;

  class Instrument {
    constructor(root) {
      this.root = root;
      this.names = root.dataset.view.split(" ");
      this.scene = new EditedScene(window.vggScenes, Number(root.dataset.picture || 0));
      this.patch = { x: 0.5, y: 0.5, half: 0.12 }; // of the occlusion view; it outlives a net
      this.hand = new Hand(this);
      this.own = new OwnNet((net) => this.use(net));
      this.turn = 0; // counts the pictures: an answer to an older one is dropped
      this.busy = false;
      this.observer = new ResizeObserver(() => this.resized());
      root.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.view?.escaped();
      });
      this.offer();
    }

    // ---- the net

    /** Before anything is fetched: what will come, and what it weighs. */
    offer() {
      const status = h("p", { class: "think-status", role: "status" });
      const button = h("button", { type: "button", onclick: () => this.begin(button, status) }, "Load the trained net (400 kB)");
      this.root.replaceChildren(h("div", { class: "think-offer" }, button, status));
    }

    async begin(button, status) {
      const focused = document.activeElement === button;
      button.disabled = true;
      status.textContent = "Loading.";
      try {
        this.use(await trained("D"));
        if (focused) (this.tabs.firstChild ?? this.hand.canvas).focus({ preventScroll: true });
      } catch (error) {
        button.disabled = false;
        status.textContent = error.message;
      }
    }

    /** From now on this net answers; scene, patch and view stay. */
    use(net) {
      const shown = this.view ? this.names.find((name) => this.views[name] === this.view) : this.names[0];
      this.net = net;
      this.views = Object.fromEntries(this.names.map((name) => [name, new views[name](this)]));
      this.view = this.views[shown];
      this.build();
      this.show(shown);
    }

    /** Are the net's classes those of the pictures? */
    ofTheSet() {
      const { classes } = this.scene.tables;
      return this.net.classes.length === classes.length && this.net.classes.every((name, i) => name === classes[i]);
    }

    // ---- elements

    /** From top to bottom: views, what the chosen view asks, the picture beside its map and what changes it, the answer, the rest. */
    build() {
      const tabs = this.names.length > 1 ? this.names.map((name) => this.tab(name)) : [];
      this.tabs = h("div", { class: "think-tabs", role: "group", "aria-label": "view" }, tabs);
      this.asked = h("div", { class: "think-row think-asked" });
      this.beside = h("figure", {});
      this.pair = h("div", { class: "think-pair" }, h("figure", {}, this.hand.canvas, this.hand.caption), this.beside);
      this.below = h("div", { class: "think-below" });
      this.controls = new SceneControls(this);
      this.answer = new Answer(this);
      this.panel = h("div", { class: "think-panel" });
      this.root.replaceChildren(
        this.tabs,
        this.asked,
        h("div", { class: "think-stage" }, h("div", { class: "think-left" }, this.pair, this.below), this.controls.node),
        this.answer.node,
        this.panel,
        this.own.node);
      this.observer.disconnect();
      this.observer.observe(this.pair);
    }

    tab(name) {
      return h("button", { type: "button", "data-view": name, onclick: () => this.show(name) }, views[name].title);
    }

    show(name) {
      this.view = this.views[name];
      for (const tab of this.tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.view === name));
      const { asked, beside, below, panel } = this.view.lay();
      this.asked.replaceChildren(...asked);
      this.beside.replaceChildren(...beside);
      this.below.replaceChildren(...below);
      this.panel.replaceChildren(...panel);
      this.hand.tell();
      this.refresh();
    }

    // ---- computing

    /** The scene was changed. */
    edited() {
      this.view.edited();
      this.refresh();
    }

    /** Draw, ask the worker, show its answer, and again if the picture has changed meanwhile; at most one question under way. */
    async refresh() {
      this.turn += 1;
      if (this.busy) return; // and the loop goes round once more
      this.busy = true;
      let turn;
      do {
        turn = this.turn;
        await this.compute().catch((error) => this.say(error.message));
      } while (turn !== this.turn);
      this.busy = false;
      this.root.dataset.turn = this.turn;
    }

    async compute() {
      this.paint();
      await this.view.answer(this.picture);
    }

    say(text) {
      this.answer.say(text);
    }

    /** The answer to the picture, and what else is to be said of it. */
    conclude(posterior, rest) {
      this.posterior = posterior;
      this.answer.show(posterior, rest);
    }

    // ---- drawing

    /** The picture anew, from the scene. */
    paint() {
      this.picture = this.scene.paint(this.view.side, this.view.strokes());
      this.draw();
    }

    draw() {
      if (!this.picture) return;
      const { canvas } = this.hand;
      const { pen, side } = fresh(canvas);
      pen.drawImage(bitmap(this.view.shown(this.picture)), 0, 0, side, side);
      this.hand.draw(pen, side);
      this.view.draw(pen, side);
      canvas.setAttribute("aria-label", `${this.scene.described()} Arrow keys ${this.hand.held().keys}.`);
    }

    /** Draw anew at another width. */
    resized() {
      if (this.width === this.pair.clientWidth) return;
      this.width = this.pair.clientWidth;
      this.draw();
      this.view.resized();
    }
  }

  function start() {
    for (const root of document.querySelectorAll("div.think")) root.instrument = new Instrument(root);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
