/* The units of a layer as drawings: a sheet of all feature maps and one of them large, a vector folded into a square, or class scores
 * as bars. What the reader points at in them, the view hears.
 */
"use strict";

(() => {
  const { h, clip, minus, squared, greys, fresh, frame } = vggThink;
  const CELL = 32; // the side of a map in the sheet, in pixels, where there is room
  const FINGER = 27; // and where there is little

  /** The values of one channel of a map. */
  const plane = (map, channel) => map.data.subarray(channel * map.h * map.w, (channel + 1) * map.h * map.w);

  /** The values of all channels at one place of a map. */
  const across = (map, { y, x }) => Array.from({ length: map.c }, (_, c) => map.data[(c * map.h + y) * map.w + x]);

  /** How many units of a vector stand in a row of the square that it is folded into. */
  const folded = (count) => Math.ceil(Math.sqrt(count));

  /** Column and row under the pointer in a drawing of so many. */
  function cellUnder(event, columns, rows) {
    const box = event.currentTarget.getBoundingClientRect();
    const at = (value, length, count) => clip(Math.floor((count * value) / length), 0, count - 1);
    return { x: at(event.clientX - box.left, box.width, columns), y: at(event.clientY - box.top, box.height, rows) };
  }

  class Units {
    constructor(view) {
      this.view = view;
      this.sheet = h("canvas", { class: "think-sheet", role: "img", onclick: (event) => this.sheetClicked(event) });
      this.large = h("canvas", {
        tabindex: 0, role: "application", class: "think-map",
        onpointermove: (event) => view.hovered(this.under(event)),
        onclick: (event) => view.clicked(this.under(event)),
        onkeydown: (event) => view.pressed(event),
      });
      this.hand = h("figcaption", {});
      this.vector = h("p", { class: "think-vector" });
      this.scores = h("ol", { class: "think-signed", "aria-label": "class scores" });
    }

    draw() {
      const { map, vector, last } = this.view.chosen();
      this.large.hidden = last;
      this.sheet.hidden = vector;
      this.vector.hidden = !vector;
      this.scores.replaceChildren();
      if (last) this.drawClasses(map);
      else if (vector) this.drawVector(map);
      else this.drawMaps(map);
      this.hand.textContent = this.invitation();
    }

    /** What the reader's hand can do here. */
    invitation() {
      const { map, vector, last } = this.view.chosen();
      const { channel, pinned } = this.view.unit;
      if (pinned) return "Pinned: Escape or a second click on it releases it.";
      if (last) return "The class scores, bars from 0 to both sides. Choose one.";
      const what = vector ? `${map.c} units` : `Channel ${channel}: ${squared(map.h, map.w)} units`;
      return `${what}. Point at one, or use the arrow keys; a click or Enter pins it.`;
    }

    // ---- maps

    /** How many maps stand side by side: as many as a finger can still choose. */
    columns() {
      return clip(Math.floor(this.sheet.parentElement.clientWidth / FINGER), 8, 16);
    }

    drawMaps(map) {
      const { channel, x, y } = this.view.unit;
      const top = map.data.reduce((a, b) => Math.max(a, b), 0);
      this.drawSheet(map, channel, top);
      const { pen, side } = fresh(this.large);
      pen.drawImage(greys(plane(map, channel), map.w, map.h, top), 0, 0, side, side);
      frame(pen, (x * side) / map.w, (y * side) / map.h, side / map.w, side / map.h);
    }

    /** All maps side by side, `top` their white; the chosen one is framed. */
    drawSheet(map, channel, top) {
      const columns = this.columns();
      this.sheet.width = columns * CELL;
      this.sheet.height = Math.ceil(map.c / columns) * CELL;
      const pen = this.sheet.getContext("2d");
      pen.imageSmoothingEnabled = false;
      for (let c = 0; c < map.c; c++) {
        const left = (c % columns) * CELL;
        const upper = Math.floor(c / columns) * CELL;
        pen.drawImage(greys(plane(map, c), map.w, map.h, top), left + 1, upper + 1, CELL - 2, CELL - 2);
        if (c === channel) frame(pen, left + 2, upper + 2, CELL - 4, CELL - 4);
      }
      this.sheet.setAttribute("aria-label",
        `The ${map.c} maps of ${map.name}, ${map.h} by ${map.w} units each; channel ${channel} is chosen.`);
    }

    sheetClicked(event) {
      const columns = this.columns();
      const { x, y } = cellUnder(event, columns, this.sheet.height / CELL);
      this.view.choose({ channel: y * columns + x });
    }

    // ---- vectors

    /** The units of a vector row by row in a square; what is left of the last row stays empty. */
    drawVector(map) {
      const values = across(map, this.view.unit);
      const columns = folded(map.c);
      const rows = Math.ceil(map.c / columns);
      const square = [...values, ...Array(rows * columns - map.c).fill(0)];
      const { pen, side } = fresh(this.large);
      const cell = side / columns;
      pen.drawImage(greys(square, columns, rows, Math.max(...values)), 0, 0, side, rows * cell);
      const { channel } = this.view.unit;
      frame(pen, (channel % columns) * cell, Math.floor(channel / columns) * cell, cell, cell);
      const active = values.filter((value) => value > 0).length;
      this.vector.textContent = `${map.name} is a vector: ${active} of its ${map.c} units answer (are above 0). `
        + `A unit has no place in the picture; the square folds the vector, ${rows} rows of ${columns}, `
        + "black at 0, white at the strongest. "
        + `Read as a convolution, its kernel is ${this.kernel()}.`;
    }

    /** The kernel of the chosen FC layer, read as a convolution (Sect. 3.2). */
    kernel() {
      const { net } = this.view;
      const first = net.layers.find(({ kind }) => kind === "fc");
      return this.view.chosen().layer === first ? `the whole last map, ${squared(...net.grid)}` : squared(1, 1);
    }

    /** The unit of the large drawing under the pointer: its column and row in a map, its number in a vector. */
    under(event) {
      const { map, vector } = this.view.chosen();
      if (!vector) return cellUnder(event, map.w, map.h);
      const columns = folded(map.c);
      const { x, y } = cellUnder(event, columns, columns);
      return { channel: Math.min(map.c - 1, y * columns + x) };
    }

    // ---- class scores

    /** The class scores as bars from 0 to both sides, each with a button that chooses it. */
    drawClasses(map) {
      const scores = across(map, this.view.unit);
      const most = Math.max(...scores.map(Math.abs), 1e-9);
      const share = (score) => (50 * score) / most; // of the bar's place, in percent; 0 stands in its middle
      const line = (score, c) => h("li", {},
        h("button", { type: "button", "aria-pressed": String(c === this.view.unit.channel), onclick: () => this.chooseClass(c) },
          h("span", {}, this.view.net.classes[c]),
          h("span", { class: "think-share" }, minus(score.toFixed(1)))),
        h("span", { class: "think-zero", "aria-hidden": "true" },
          h("span", {
            class: score < 0 ? "below" : "",
            style: `left:${50 + Math.min(0, share(score))}%;width:${Math.abs(share(score))}%`,
          })));
      this.scores.replaceChildren(...scores.map(line));
      this.vector.textContent = `The last layer gives ${map.c} scores, one a class, below 0 too: no ReLU follows. `
        + "The soft-max makes the shares of the answer from them.";
    }

    /** The list is made anew; the keyboard keeps its place. */
    chooseClass(channel) {
      this.view.choose({ channel });
      this.scores.querySelectorAll("button")[channel].focus({ preventScroll: true });
    }
  }

  Object.assign(vggThink, { Units, across, folded });
})();
