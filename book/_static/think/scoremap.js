/* The score map of dense evaluation (Section 3.2): a tile a score, the crop that each answers for, and the map over the picture. */
"use strict";

(() => {
  const { h, arrow, best, clip, percent, wholePercent, squared, dot, frameWithin } = vggThink;
  const DARK = 0.95; // from this share on, the number on a tile is white
  const NUMBERS = 5; // columns, up to which a tile has room for a number
  const OPAQUE = 0.65; // of the map over the picture

  /** The colour of a share: white at 0, the bars' blue at 1. */
  const tint = (share) => [0, 114, 178].map((value) => Math.round(255 + share * (value - 255)));

  /** Values on a grid with `factor` points a side for each: at the middle of its cell stands the value, between two middles a
   *  straight line, beyond the outer ones nothing new. */
  function smooth(values, rows, columns, factor) {
    const along = (count) => Array.from({ length: count * factor }, (_, i) => {
      const place = clip((i + 0.5) / factor - 0.5, 0, count - 1);
      const first = Math.floor(place);
      return { first, next: Math.min(first + 1, count - 1), part: place - first };
    });
    const out = new Float32Array(rows * factor * columns * factor);
    const across = along(columns);
    let at = 0;
    for (const down of along(rows)) {
      for (const { first, next, part } of across) {
        const row = (y) => values[y * columns + first] * (1 - part) + values[y * columns + next] * part;
        out[at++] = row(down.first) * (1 - down.part) + row(down.next) * down.part;
      }
    }
    return out;
  }

  class ScoreMap {
    constructor(view) {
      this.view = view;
      this.net = view.net;
      this.map = null; // what dense evaluation gave: rows, columns, a posterior each, and where their windows lie
      this.about = -1; // the class whose scores are shown; -1: that of the answer
      this.cell = { row: 0, column: 0 }; // the chosen score
    }

    lay() {
      this.map = null;
      this.tiles = h("div", { class: "think-scores", role: "group", onkeydown: (event) => this.pressed(event) });
      this.hand = h("figcaption", {});
      this.told = h("p", { class: "think-told", "aria-live": "polite" });
      this.resolution = h("p", { class: "think-resolution" });
    }

    // ---- scores and their windows

    /** The class whose scores are shown. */
    subject() {
      return this.about < 0 ? best(this.map.posterior) : this.about;
    }

    posterior({ row, column }) {
      return this.map.positions[row * this.map.columns + column];
    }

    /** The places of all scores, row by row. */
    places() {
      const { rows, columns } = this.map;
      return Array.from({ length: rows * columns }, (_, i) => ({ row: Math.floor(i / columns), column: i % columns }));
    }

    /** The crop that a score answers for, in pixels. A net that reads the picture in steps of `jump` gives its score (row, column) to
     *  the crop that begins so many steps from the corner. */
    windowOf({ row, column }) {
      const left = column * this.map.jump;
      const top = row * this.map.jump;
      return { left, top, right: left + this.net.size[1], bottom: top + this.net.size[0] };
    }

    isChosen({ row, column }) {
      return row === this.cell.row && column === this.cell.column;
    }

    // ---- the tiles

    show(map = this.map) {
      this.map = map;
      if (!map) return; // it is on its way
      this.cell = { row: Math.min(this.cell.row, map.rows - 1), column: Math.min(this.cell.column, map.columns - 1) };
      this.showTiles();
      this.tell();
      this.choose(this.cell);
    }

    /** The score map as a table of what the net computed, a button a score. */
    showTiles() {
      const { rows, columns } = this.map;
      const axis = (i) => h("span", { class: "think-axis", "aria-hidden": "true" }, String(i));
      const tiles = this.places().map((place) => (place.column === 0 ? [axis(place.row), this.tile(place)] : this.tile(place)));
      const above = Array.from({ length: columns }, (_, column) => axis(column));
      this.tiles.style.gridTemplate = `1.4em repeat(${rows}, minmax(0, 1fr)) / 1em repeat(${columns}, minmax(0, 1fr))`;
      this.tiles.replaceChildren(h("span", {}), ...above, ...tiles.flat());
    }

    tile(place) {
      const share = this.posterior(place)[this.subject()];
      const text = wholePercent(share);
      const { row, column } = place;
      const choose = () => this.choose(place);
      return h("button", {
        type: "button", "data-row": row, "data-column": column, class: share > DARK ? "dark" : null,
        style: `background:rgb(${tint(share)})`, "aria-label": `row ${row}, column ${column}: ${text}`,
        onpointerenter: choose, onclick: choose, onfocus: choose,
      }, this.map.columns > NUMBERS ? "" : text);
    }

    /** What the map shows, and how coarse it is. */
    tell() {
      const { rows, columns, jump } = this.map;
      const name = this.net.classes[this.subject()];
      const count = rows * columns;
      this.tiles.setAttribute("aria-label", `score map of ${name}, ${rows} rows by ${columns} columns`);
      this.hand.textContent = `Score map: how sure of ${name}. Point at a score, or use the arrow keys.`;
      const ramp = h("span", { class: "think-ramp shares", "aria-hidden": "true" });
      this.resolution.replaceChildren(
        h("span", {}, "0 % ", ramp, ` 100 % ${name}. `),
        count === 1 ? "One score, at the dot. "
          : `${count} scores, at the dots, ${jump} pixels apart; the colours between are interpolated and hold nothing more. `,
        "Where the picture keeps its colours there is no score.");
    }

    // ---- choosing one

    /** Choose a score: its window is framed in the picture, and its answer said. */
    choose(cell) {
      if (!this.map) return; // that of another size is on its way
      this.cell = cell;
      for (const tile of this.tiles.querySelectorAll("button")) {
        const here = this.isChosen({ row: Number(tile.dataset.row), column: Number(tile.dataset.column) });
        tile.setAttribute("aria-pressed", String(here));
        tile.tabIndex = here ? 0 : -1;
      }
      this.told.textContent = this.answered();
      this.view.instrument.draw();
    }

    /** What the chosen score says, and what it answers for. */
    answered() {
      const { row, column } = this.cell;
      const posterior = this.posterior(this.cell);
      const first = best(posterior);
      const subject = this.subject();
      const says = (c) => `${this.net.classes[c]} ${percent(posterior[c])}`;
      return `Row ${row}, column ${column}: ${says(first)}${first === subject ? "" : `, ${says(subject)}`}. ${this.seen()}`;
    }

    /** What the chosen score sees. */
    seen() {
      const { q, field } = this.map;
      const { left, top, right, bottom } = this.windowOf(this.cell);
      if (right - left >= q && bottom - top >= q) return "Its window is the whole picture.";
      return `Its window, framed: pixels ${left} to ${right - 1} across, ${top} to ${bottom - 1} down. `
        + `Where a crop would end in zeros, the score sees on into the picture: its field is ${squared(field, field)}.`;
    }

    /** Choose the score nearest to a place in the picture. */
    pointedAt({ x, y }) {
      if (!this.map) return;
      const { q, jump, rows, columns } = this.map;
      const nearest = (place, size, count) => clip(Math.round((place * q - size / 2) / jump), 0, count - 1);
      const cell = { row: nearest(y, this.net.size[0], rows), column: nearest(x, this.net.size[1], columns) };
      if (!this.isChosen(cell)) this.choose(cell);
    }

    pressed(event) {
      const step = arrow(event);
      if (!step || !this.map) return;
      event.preventDefault();
      const row = clip(this.cell.row + step[1], 0, this.map.rows - 1);
      const column = clip(this.cell.column + step[0], 0, this.map.columns - 1);
      this.tiles.querySelector(`button[data-row="${row}"][data-column="${column}"]`).focus({ preventScroll: true });
    }

    // ---- over the picture

    /** The picture, grey and tinted where the map has scores: each score at the middle of its window, interpolated in between. */
    overlaid(picture) {
      const { rows, columns, jump, positions } = this.map;
      const subject = this.subject();
      const shares = smooth(positions.map((posterior) => posterior[subject]), rows, columns, jump);
      const [upper, left] = this.net.size.map((side) => Math.round((side - jump) / 2));
      const width = columns * jump;
      const area = picture.h * picture.w;
      const data = Float32Array.from(picture.data);
      shares.forEach((share, i) => {
        const at = (upper + Math.floor(i / width)) * picture.w + left + (i % width);
        const grey = (picture.data[at] + picture.data[area + at] + picture.data[2 * area + at]) / 3;
        tint(share).forEach((colour, c) => {
          data[c * area + at] = (1 - OPAQUE) * grey + OPAQUE * colour;
        });
      });
      return { ...picture, data };
    }

    /** The window of the chosen score, and a dot in the middle of each. */
    draw(pen, side) {
      const scale = side / this.map.q;
      const { left, top, right, bottom } = this.windowOf(this.cell);
      frameWithin(pen, side, [left, top, right, bottom].map((edge) => edge * scale));
      for (const place of this.places()) {
        const window_ = this.windowOf(place);
        const x = (scale * (window_.left + window_.right)) / 2;
        const y = (scale * (window_.top + window_.bottom)) / 2;
        dot(pen, x, y, this.isChosen(place) ? 5 : 2.5);
      }
    }
  }

  Object.assign(vggThink, { smooth, ScoreMap });
})();
