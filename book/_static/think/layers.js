/* The layers view: one layer, one unit of it, and the part of the picture that the unit sees. units.js draws the layer's units, sum.js
 * writes how the chosen one gets its value.
 */
"use strict";

(() => {
  const { h, field, arrow, clip, best, number, squared, frameWithin, View, views } = vggThink;
  const { Units, across, folded, writtenSum } = vggThink;

  /** The unit of a layer whose receptive field's middle lies nearest to a place in the picture (pixels along one axis), and back. */
  const nearest = ({ left, size, jump }, place, count) => clip(Math.round((place - left - size / 2) / jump), 0, count - 1);
  const middle = ({ left, size, jump }, unit) => left + size / 2 + unit * jump;

  // layers whose units are no sums
  const SIMPLE = { pool: "The largest of the units below it.", lrn: "The unit below it, divided by its neighbours' strength." };

  views.layers = class extends View {
    static title = "Layers";

    constructor(instrument) {
      super(instrument);
      const { name } = this.net.layers.find(({ kind }) => kind === "conv");
      // What is kept of a chosen unit is its place in the picture, so that other layers show the same place. A channel of null will
      // be the one that answers most there.
      this.unit = { layer: name, channel: null, place: { x: this.side / 2, y: this.side / 2 }, pinned: false };
      this.maps = null; // all activations of the last picture
      this.questions = 0; // counts the units asked for: an answer to an older one is dropped
    }

    lay() {
      this.field = null; // the chosen unit's receptive field
      this.units = new Units(this);
      const names = this.net.layers.map(({ name }) => h("option", { value: name, selected: name === this.unit.layer }, name));
      const layer = h("select", { onchange: () => this.choose({ layer: layer.value, channel: null }) }, names);
      this.channel = h("input", {
        type: "number", min: 0, value: 0, onchange: () => this.choose({ channel: Math.round(Number(this.channel.value)) }),
      });
      this.channelField = field("Channel", this.channel);
      this.sum = h("div", { class: "think-sum", "aria-live": "polite" });
      const { scores, large, hand, sheet, vector } = this.units;
      return {
        asked: [field("Layer", layer), this.channelField],
        beside: [scores, large, hand],
        below: [sheet, vector],
        panel: [this.sum],
      };
    }

    async answer(picture) {
      const { result, ms } = await this.ask("forward", { picture });
      if (this.instrument.view !== this) return;
      this.maps = result.maps;
      this.instrument.conclude(result.posterior, `One pass took ${Math.round(ms)} ms.`);
      await this.show();
      this.instrument.draw();
    }

    draw(pen, side) {
      if (!this.field) return;
      const { left, top, right, bottom } = this.fieldInside();
      frameWithin(pen, side, [left, top, right, bottom].map((edge) => (edge * side) / this.side));
    }

    resized() {
      if (this.maps) this.units.draw();
    }

    escaped() {
      if (this.unit.pinned) this.choose({ pinned: false });
    }

    // ---- choosing a unit

    choose(part) {
      Object.assign(this.unit, part);
      if (!this.maps) return; // they are on their way
      this.show().then(() => this.instrument.draw()).catch((error) => this.instrument.say(error.message));
    }

    /** The chosen layer: its description, its map, and whether it gives vectors, and class scores. */
    chosen() {
      const { layers } = this.net;
      const layer = layers.find(({ name }) => name === this.unit.layer);
      const map = this.maps.find(({ name }) => name === layer.name);
      return { layer, map, vector: layer.kind === "fc", last: layer === layers.at(-1) };
    }

    /** Choose by column and row in a map, or by number in a vector. */
    chooseUnit({ x, y, channel }, pinned = this.unit.pinned) {
      const { layer, map } = this.chosen();
      if (channel !== undefined) {
        this.choose({ channel: clip(channel, 0, map.c - 1), pinned });
        return;
      }
      const place = { x: middle(layer.field, clip(x, 0, map.w - 1)), y: middle(layer.field, clip(y, 0, map.h - 1)) };
      this.choose({ place, pinned });
    }

    /** Is this unit of the chosen map or vector the chosen one? */
    same({ x = this.unit.x, y = this.unit.y, channel = this.unit.channel }) {
      return x === this.unit.x && y === this.unit.y && channel === this.unit.channel;
    }

    hovered(at) {
      if (!this.unit.pinned && !this.same(at)) this.chooseUnit(at);
    }

    /** A click pins the unit under it; on the pinned unit it releases. */
    clicked(at) {
      this.chooseUnit(at, !(this.unit.pinned && this.same(at)));
    }

    pressed(event) {
      if (event.key === "Enter") {
        event.preventDefault();
        this.choose({ pinned: !this.unit.pinned });
        return;
      }
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const { map, vector } = this.chosen();
      if (vector) this.chooseUnit({ channel: this.unit.channel + step[0] + step[1] * folded(map.c) });
      else this.chooseUnit({ x: this.unit.x + step[0], y: this.unit.y + step[1] });
    }

    // ---- showing it

    async show() {
      const question = (this.questions += 1);
      const { unit } = this;
      const { layer, map, last } = this.chosen();
      this.find(layer, map);
      this.units.draw();
      const value = across(map, unit)[unit.channel];
      const name = this.named();
      this.units.large.setAttribute("aria-label", `${name}: ${number(value)}${unit.pinned ? ", pinned" : ""}`);
      const line = h("p", {}, `${name}: `, h("strong", {}, number(value)), `. ${this.sees()}`);
      if (layer.kind in SIMPLE) {
        this.sum.replaceChildren(line, h("p", {}, SIMPLE[layer.kind]));
        return;
      }
      const { result } = await this.ask("unit", { layer: layer.name, channel: unit.channel, y: unit.y, x: unit.x });
      if (question === this.questions) this.sum.replaceChildren(line, ...writtenSum(result, value, last));
    }

    /** Row, column and channel of the chosen unit in its layer, and its receptive field. */
    find({ field: seen, kind }, map) {
      const { unit } = this;
      unit.y = nearest(seen, unit.place.y, map.h);
      unit.x = nearest(seen, unit.place.x, map.w);
      unit.channel = clip(unit.channel ?? best(across(map, unit)), 0, map.c - 1);
      this.channel.max = map.c - 1;
      this.channel.value = unit.channel;
      this.channelField.firstChild.textContent = kind === "fc" ? "Unit" : "Channel";
      this.field = { left: seen.left + unit.x * seen.jump, top: seen.left + unit.y * seen.jump, size: seen.size };
    }

    named() {
      const { layer, channel, y, x } = this.unit;
      const { vector, last } = this.chosen();
      if (!vector) return `${layer}, channel ${channel}, row ${y}, column ${x}`;
      return `${layer}, unit ${channel}${last ? ` (${this.net.classes[channel]})` : ""}`;
    }

    /** The part of the receptive field that lies in the picture: first and last edges, in pixels. */
    fieldInside() {
      const { left, top, size } = this.field;
      const within = (edge) => clip(edge, 0, this.side);
      return { left: within(left), top: within(top), right: within(left + size), bottom: within(top + size) };
    }

    /** What the chosen unit sees and what the frame shows of it, in words. */
    sees() {
      const { size } = this.field;
      const { left, top, right, bottom } = this.fieldInside();
      const start = `It sees ${squared(size, size)} pixels`;
      if (right - left === size && bottom - top === size) return `${start}, framed in the picture.`;
      const larger = size > this.side ? `, more than the picture's ${squared(this.side, this.side)}` : "";
      const shown = squared(right - left, bottom - top);
      return `${start}${larger}. The frame holds the ${shown} that lie in the picture; the rest is padding.`;
    }
  };
})();
