/* "See it think": a trained miniature computes in the page, in a worker, what a picture becomes.
 *
 * Every <div class="think" data-view="layers occlusion testing"> becomes an instrument; its own text is what stands there without
 * JavaScript. net.js computes, scene.js draws the pictures, scenes.js holds their numbers, net-D.js (loaded when asked for) the net.
 */
"use strict";

(() => {
  const HERE = new URL(".", document.currentScript.src).href;
  const TITLES = { layers: "Layers", occlusion: "Occlusion", testing: "Testing" };
  const GREY = [128, 128, 128];

  // ---- words and elements ----------------------------------------------------------------------------------------------

  function h(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child != null));
    return node;
  }

  let serial = 0;
  function field(text, control) {
    control.id = `think-${(serial += 1)}`;
    return h("div", { class: "think-field" }, h("label", { for: control.id }, text), control);
  }

  const slider = (attributes, oninput) => h("input", { type: "range", ...attributes, oninput });
  const options = (names) => names.map((name, value) => h("option", { value }, name));
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const millions = (macs) => `${(macs / 1e6).toLocaleString("en-US", { maximumFractionDigits: macs < 1e8 ? 1 : 0 })} million multiply-adds`;
  const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 3 }).replace("-", "\u2212");
  /** The channel that answers most at a place of a map. */
  const strongest = (map, { y, x }) => best(Array.from({ length: map.c }, (_, c) => map.data[(c * map.h + y) * map.w + x]));
  /** The unit of a layer whose field's middle lies nearest to a place in the picture (pixels along one axis), and back. */
  const nearest = ({ left, size, jump }, place, count) => Math.min(count - 1, Math.max(0, Math.round((place - left - size / 2) / jump)));
  const middle = ({ left, size, jump }, unit) => left + size / 2 + unit * jump;
  const best = (posterior) => posterior.indexOf(Math.max(...posterior));

  // ---- the net, in a worker ---------------------------------------------------------------------------------------------

  /** Questions to the worker, answered by promises; without workers the same code runs here. */
  class Brain {
    constructor() {
      this.waiting = new Map();
      this.count = 0;
      const text = `(${vggWorker})((${vggEngine})());`;
      this.worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      this.worker.onmessage = ({ data }) => this.heard(data);
    }

    heard({ id, share, result, error, ms }) {
      const asked = this.waiting.get(id);
      if (share !== undefined) {
        asked.step(share);
        return;
      }
      this.waiting.delete(id);
      if (error !== undefined) asked.reject(new Error(error));
      else asked.resolve({ result, ms });
    }

    ask(task, given = {}, step = () => {}) {
      const id = (this.count += 1);
      return new Promise((resolve, reject) => {
        this.waiting.set(id, { resolve, reject, step });
        this.worker.postMessage({ id, task, ...given });
      });
    }
  }

  let brain = null;
  const asked = {}; // files that were asked for, by name
  const think = () => (brain ??= new Brain());

  /** What net-*.js calls with the net that it holds. */
  window.vggThink = {
    add(data) {
      asked[data.name].resolve(data);
    },
  };

  function script(name, wanted) {
    if (asked[wanted]) return asked[wanted].promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => {
      entry.resolve = resolve;
      entry.reject = reject;
    });
    asked[wanted] = entry;
    const node = h("script", { src: HERE + name });
    node.addEventListener("error", () => {
      delete asked[wanted];
      entry.reject(new Error(`${name} could not be read: check the connection and try again.`));
    });
    document.head.append(node);
    return entry.promise;
  }

  const decode = async (data) => (await think().ask("decode", { data })).result;

  // ---- drawing -----------------------------------------------------------------------------------------------------------

  /** RGB planes as a small canvas of one pixel a pixel. */
  function bitmap(picture) {
    const { h: height, w: width, data } = picture;
    const canvas = h("canvas", { width, height });
    const image = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = data[c * height * width + i];
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** One map in grey, black at 0, white at `top`. */
  function greys(map, channel, top) {
    const canvas = h("canvas", { width: map.w, height: map.h });
    const image = new ImageData(map.w, map.h);
    const plane = map.data.subarray(channel * map.h * map.w, (channel + 1) * map.h * map.w);
    plane.forEach((value, i) => {
      const grey = Math.max(0, Math.min(255, (255 * value) / (top || 1)));
      image.data.set([grey, grey, grey, 255], 4 * i);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  function stretched(canvas, source, left = 0, top = 0, width = canvas.width, height = canvas.height) {
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(source, left, top, width, height);
    return pen;
  }

  /** A frame that shows on any ground: white inside black. */
  function frame(pen, left, top, width, height) {
    for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(left, top, width, height);
    }
  }

  function bars(node, names, posterior, label) {
    const order = posterior.map((share, index) => ({ share, index })).sort((a, b) => b.share - a.share).slice(0, 5);
    node.replaceChildren(
      ...order.map(({ share, index }) =>
        h("li", index === label ? { class: "right" } : {},
          h("span", { class: "think-name" }, names[index] + (index === label ? " (what it is)" : "")),
          h("span", { class: "think-bar", "aria-hidden": "true" }, h("span", { style: `width:${100 * share}%` })),
          h("span", { class: "think-share" }, percent(share)))));
  }

  // ---- an instrument -----------------------------------------------------------------------------------------------------

  class Instrument {
    constructor(root) {
      this.root = root;
      this.views = (root.dataset.view || "layers occlusion testing").split(" ");
      this.view = this.views[0];
      this.tables = window.vggScenes;
      this.scene = Number(root.dataset.picture || 0);
      this.change = {};
      this.strokes = [];
      this.painting = false;
      this.patch = { x: 0.5, y: 0.5, half: 0.12 };
      this.spot = { layer: null, channel: 0, place: { x: 0, y: 0 }, y: 0, x: 0, pinned: false };
      this.heat = null;
      this.map = null;
      root.addEventListener("keydown", (event) => { if (event.key === "Escape" && this.view === "layers" && this.spot.pinned) this.picked({ pinned: false }); });
      this.turn = 0; // counts the pictures: an answer to an older one is dropped
      this.offer();
    }

    /** Before anything is fetched: what will come, and what it weighs. */
    offer() {
      this.status = h("p", { class: "think-status", role: "status" });
      const button = h("button", { type: "button", onclick: () => this.begin(button) }, "Load the trained net (400 kB)");
      this.root.replaceChildren(h("div", { class: "think-offer" }, button, this.status));
    }

    async begin(button) {
      button.disabled = true;
      this.say("Loading.");
      try {
        this.use(await decode(await script("net-D.js", "D")));
      } catch (error) {
        button.disabled = false;
        this.say(error.message);
      }
    }

    say(text) {
      this.status.textContent = text;
    }

    use(net) {
      this.net = net;
      this.side = net.size[0];
      this.q = this.side;
      this.spot = { layer: net.layers.find((layer) => layer.kind === "conv").name, channel: null, place: { x: this.side / 2, y: this.side / 2 }, pinned: false };
      this.build();
      this.refresh();
    }

    known() {
      return this.net.classes.length === this.tables.classes.length && this.net.classes.every((name, i) => name === this.tables.classes[i]);
    }

    build() {
      const { tables, net } = this;
      this.canvas = h("canvas", {
        width: 256, height: 256, tabindex: 0, class: "think-picture", role: "application", "aria-label": "the picture",
        onpointerdown: (event) => this.pointed(event, true), onpointermove: (event) => this.pointed(event, false),
        onpointerup: () => { this.dragging = false; }, onkeydown: (event) => this.pressed(event),
      });
      const select = (text, names, key, current) => {
        const made = names.map((name, value) => h("option", { value, selected: value === current }, name));
        const known = (option) => !this.known() || net.classes.some((name) => name.split("-").includes(option.textContent));
        const strange = made.filter((option) => !known(option));
        return field(text, h("select", { onchange: (event) => this.altered({ [key]: Number(event.target.value) }) },
          made.filter(known), strange.length ? h("optgroup", { label: "not among the classes" }, strange) : null));
      };
      const { object } = tables.scenes[this.scene];
      const controls = h("fieldset", {},
        h("legend", {}, "The picture"),
        field("Picture", h("select", { onchange: (event) => this.another(Number(event.target.value)) },
          tables.scenes.map((scene, value) => h("option", { value, selected: value === this.scene }, `${value + 1}: ${tables.classes[scene.label]}`)))),
        field("Size", slider({ min: 0.4, max: 1.6, step: 0.05, value: 1 }, (event) => this.altered({ size: Number(event.target.value) }))),
        field("Turn", slider({ min: -180, max: 180, step: 5, value: 0 }, (event) => this.altered({ turn: (Number(event.target.value) * Math.PI) / 180 }))),
        select("Outline", tables.shapeNames, "shape", object.shape),
        select("Texture", tables.textureNames, "texture", object.texture),
        field("Paint", slider({ min: 0, max: 360, step: 5, value: 0 }, (event) => this.repainted(Number(event.target.value)))),
        h("div", { class: "think-field" },
          h("label", {}, h("input", { type: "checkbox", onchange: (event) => { this.painting = event.target.checked; this.captioned(); } }), " draw over it"),
          h("button", { type: "button", onclick: () => this.another(this.scene) }, "As it was")));
      this.answer = h("ol", { class: "think-answer", "aria-label": "the five most likely classes" });
      this.status = h("p", { class: "think-status", role: "status" });
      this.strange = h("p", { class: "think-strange", "aria-live": "polite" });
      this.caption = h("figcaption", {});
      this.panel = h("div", { class: "think-panel" });
      this.tabs = h("div", { class: "think-tabs", role: "group", "aria-label": "view" },
        this.views.map((name) => h("button", { type: "button", "data-view": name, "aria-pressed": String(name === this.view), onclick: () => this.show(name) }, TITLES[name])));
      const own = h("input", { type: "file", accept: ".json,.js,application/json", onchange: (event) => this.open(event.target.files[0]) });
      this.root.replaceChildren(
        h("div", { class: "think-top" },
          h("figure", {}, this.canvas, this.caption),
          h("div", {}, h("p", { class: "think-net" }, `${net.name}: ${net.note || "no note"}`), this.answer, this.strange, this.status,
            h("details", {}, h("summary", {}, `The ${net.classes.length} classes`), h("p", { class: "think-classes" }, net.classes.join(", "))))),
        controls,
        this.views.length > 1 ? this.tabs : "",
        this.panel,
        h("details", {}, h("summary", {}, "Open a net of your own"),
          h("p", {}, "Any net that this package has trained: ", h("code", {}, "python -m vggbook.book.export runs/mine/last.pt mine.json"), ". It stays on your machine."),
          field("File", own)));
      this.layout();
    }

    show(name) {
      this.view = name;
      this.heat = null;
      for (const button of this.tabs.children) button.setAttribute("aria-pressed", String(button.dataset.view === name));
      this.layout();
      this.refresh();
    }

    async open(file) {
      if (!file) return;
      try {
        const text = (await file.text()).trim().replace(/^vggThink\.add\(/, "").replace(/\);$/, "");
        let data;
        try {
          data = JSON.parse(text);
        } catch {
          throw new Error(`${file.name} is no exported net: it is not JSON.`);
        }
        this.use(await decode(data));
      } catch (error) {
        this.say(error.message);
      }
    }

    // -- the reader's changes
    another(index) {
      this.scene = index;
      this.change = {};
      this.strokes = [];
      this.heat = null;
      this.build();
      this.refresh();
    }

    altered(part) {
      Object.assign(this.change, part);
      this.heat = null;
      this.refresh();
    }

    repainted(degrees) {
      const paint = [0, 1, 2].map((c) => 0.5 + 0.4 * Math.cos((degrees * Math.PI) / 180 - (c * 2 * Math.PI) / 3));
      this.altered({ light: paint, dark: paint.map((value) => value - 0.35) });
    }

    place(event) {
      const box = this.canvas.getBoundingClientRect();
      const within = (value) => Math.min(1, Math.max(0, value));
      return { x: within((event.clientX - box.left) / box.width), y: within((event.clientY - box.top) / box.height) };
    }

    pointed(event, begins) {
      if (begins) {
        this.dragging = true;
        this.canvas.setPointerCapture(event.pointerId);
        event.preventDefault();
        this.canvas.focus();
      }
      if (this.dragging) this.moved(this.place(event));
    }

    moved({ x, y }) {
      if (this.view === "occlusion") {
        Object.assign(this.patch, { x, y });
        if (this.heat) this.heat.whole = false; // the patch lies on the picture again
        this.refresh();
      } else if (this.painting) {
        this.strokes.push({ x, y, half: 0.05, round: true, colour: GREY });
        this.altered({});
      } else this.altered({ x, y });
    }

    pressed(event) {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const { object } = this.tables.scenes[this.scene];
      const from = this.view === "occlusion" ? this.patch : { x: this.change.x ?? object.x, y: this.change.y ?? object.y };
      const within = (value) => Math.min(1, Math.max(0, value));
      this.moved({ x: within(from.x + step[0] / 32), y: within(from.y + step[1] / 32) });
    }

    // -- computing
    picture(side, extra = []) {
      const scene = window.vggScene.changed(this.tables.scenes[this.scene], this.change);
      return window.vggScene.paint(this.tables, { ...scene, strokes: [...this.strokes, ...extra] }, side);
    }

    patched() {
      return this.view === "occlusion" && !this.heat?.whole ? [{ ...this.patch, colour: GREY }] : [];
    }

    /** Outline and texture of the object, as a class would be called. */
    named() {
      const { object } = window.vggScene.changed(this.tables.scenes[this.scene], this.change);
      return `${this.tables.shapeNames[object.shape]}-${this.tables.textureNames[object.texture]}`;
    }

    label() {
      return this.known() ? this.tables.classes.indexOf(this.named()) : -1;
    }

    /** What the hand does to the picture. */
    captioned() {
      if (this.view === "occlusion") this.caption.textContent = "Drag the patch, or move it with the arrow keys.";
      else if (this.painting) this.caption.textContent = "Drag over the picture to draw.";
      else this.caption.textContent = "Drag the object, or move it with the arrow keys.";
    }

    /** Draw, ask the worker, show its answer unless the picture has changed meanwhile; at most one question under way. */
    async refresh() {
      this.turn += 1;
      if (this.busy) {
        this.again = true;
        return;
      }
      this.busy = true;
      try {
        do {
          this.again = false;
          await this.compute();
        } while (this.again);
      } catch (error) {
        this.say(error.message);
      } finally {
        this.busy = false;
        this.root.dataset.turn = this.turn;
      }
    }

    async compute() {
      const side = this.view === "testing" ? this.q : this.side;
      const picture = this.picture(side, this.patched());
      this.seen = picture;
      this.draw();
      if (this.view === "testing") {
        await this.test(picture);
        return;
      }
      const { result, ms } = await think().ask("forward", { net: this.net.name, picture });
      this.maps = result.maps;
      this.posterior = result.posterior;
      this.conclude(result.posterior, `One pass took ${Math.round(ms)} ms.`);
      if (this.view === "layers") await this.layer();
      this.draw();
    }

    conclude(posterior, rest) {
      bars(this.answer, this.net.classes, posterior, this.label());
      this.strange.textContent = this.known() && this.label() < 0
        ? `There is no class ${this.named()}: the net knows only its ${this.net.classes.length}, and answers all the same.` : "";
      const top = best(posterior);
      this.say(`The net says ${this.net.classes[top]}, ${percent(posterior[top])}. ${rest}`);
    }

    draw() {
      const scale = this.canvas.width / this.seen.w;
      const pen = stretched(this.canvas, bitmap(this.seen));
      if (this.view === "occlusion") this.scale.hidden = !this.heat;
      if (this.view === "occlusion" && this.heat) this.drawHeat(pen);
      if (this.view === "occlusion" && !this.heat?.whole) {
        const { x, y, half } = this.patch;
        frame(pen, (x - half) * 256, (y - half) * 256, 512 * half, 512 * half);
      }
      if (this.view === "layers" && this.sight) {
        const { left, top, right, bottom } = this.inside();
        const [first, last] = [2, this.canvas.width - 2]; // at the border the whole line shows
        const at = (edge) => Math.min(last, Math.max(first, edge * scale));
        frame(pen, at(left), at(top), at(right) - at(left), at(bottom) - at(top));
      }
      if (this.view === "testing" && this.map) this.drawMap(pen);
      this.canvas.setAttribute("aria-label", this.described());
    }

    described() {
      const { object } = window.vggScene.changed(this.tables.scenes[this.scene], this.change);
      const what = `${this.tables.shapeNames[object.shape]} with ${this.tables.textureNames[object.texture]}`;
      return `Picture of a ${what}, centre at ${Math.round(100 * object.x)} % from the left and ${Math.round(100 * object.y)} % from the top. Arrow keys move ${this.view === "occlusion" ? "the patch" : "it"}.`;
    }

    // -- panels
    layout() {
      this.sight = null;
      this.map = null;
      this.captioned();
      ({ layers: () => this.layLayers(), occlusion: () => this.layOcclusion(), testing: () => this.layTesting() })[this.view]();
    }

    layLayers() {
      const names = this.net.layers.filter((layer) => layer.kind !== "fc").map((layer) => layer.name);
      this.choice = h("select", { onchange: (event) => this.picked({ layer: event.target.value, channel: null }) },
        names.map((name) => h("option", { value: name, selected: name === this.spot.layer }, name)));
      this.channel = h("input", { type: "number", min: 0, value: 0, onchange: (event) => this.picked({ channel: Number(event.target.value) }) });
      this.sheet = h("canvas", { class: "think-sheet", role: "img", onclick: (event) => this.clicked(event) });
      this.large = h("canvas", {
        width: 192, height: 192, tabindex: 0, role: "application", class: "think-map",
        onpointermove: (event) => this.hovered(event), onclick: (event) => this.pinned(event), onkeydown: (event) => this.stepped(event),
      });
      this.hand = h("figcaption", {});
      this.sum = h("div", { class: "think-sum", "aria-live": "polite" });
      this.panel.replaceChildren(
        h("div", { class: "think-row" }, field("Layer", this.choice), field("Channel", this.channel)),
        this.sheet,
        h("div", { class: "think-row" }, h("figure", {}, this.large, this.hand), this.sum));
    }

    picked(part) {
      Object.assign(this.spot, part);
      this.layer().then(() => this.draw()).catch((error) => this.say(error.message));
    }

    /** The maps of the chosen layer, and one unit of one of them. */
    async layer() {
      const spot = this.spot;
      const map = this.maps.find((each) => each.name === spot.layer);
      const top = map.data.reduce((a, b) => Math.max(a, b), 0);
      const { field: seen, kind } = this.net.layers.find((layer) => layer.name === spot.layer);
      spot.y = nearest(seen, spot.place.y, map.h);
      spot.x = nearest(seen, spot.place.x, map.w);
      spot.channel = Math.min(Math.max(0, spot.channel ?? strongest(map, spot)), map.c - 1);
      this.channel.max = map.c - 1;
      this.channel.value = spot.channel;
      const columns = 8;
      const cell = 40;
      this.sheet.width = columns * cell;
      this.sheet.height = Math.ceil(map.c / columns) * cell;
      for (let c = 0; c < map.c; c++) {
        const [left, upper] = [(c % columns) * cell, Math.floor(c / columns) * cell];
        const pen = stretched(this.sheet, greys(map, c, top), left + 1, upper + 1, cell - 2, cell - 2);
        if (c === spot.channel) frame(pen, left + 2, upper + 2, cell - 4, cell - 4);
      }
      this.sheet.setAttribute("aria-label", `The ${map.c} maps of ${spot.layer}, ${map.h} by ${map.w} units each; channel ${spot.channel} is chosen.`);
      const pen = stretched(this.large, greys(map, spot.channel, top));
      const unit = 192 / map.w;
      frame(pen, spot.x * unit, spot.y * unit, unit, unit);
      this.sight = { left: seen.left + spot.x * seen.jump, top: seen.left + spot.y * seen.jump, size: seen.size };
      const value = map.data[(spot.channel * map.h + spot.y) * map.w + spot.x];
      const place = `${spot.layer}, channel ${spot.channel}, row ${spot.y}, column ${spot.x}`;
      this.large.setAttribute("aria-label", `${place}: ${number(value)}${spot.pinned ? ", pinned" : ""}`);
      this.hand.textContent = spot.pinned
        ? "Pinned: pointing no longer moves it. Release it with Escape, or with a second click on it. Arrow keys still step."
        : "One map, counted from row 0 and column 0. Point at a unit, or use the arrow keys; a click, a tap or Enter pins it.";
      const line = h("p", {}, `${place}: `, h("strong", {}, number(value)), `. ${this.sees()}`);
      if (kind !== "conv") {
        this.sum.replaceChildren(line, h("p", {}, kind === "pool" ? "The largest of the units below it." : "The unit below it, divided by its neighbours' strength."));
        return;
      }
      const { result } = await think().ask("unit", { net: this.net.name, layer: spot.layer, channel: spot.channel, y: spot.y, x: spot.x });
      this.sum.replaceChildren(line, ...this.written(result, value));
    }

    /** The part of the chosen unit's field that lies in the picture: first and last edges, in pixels. */
    inside() {
      const { left, top, size } = this.sight;
      const within = (edge) => Math.min(this.side, Math.max(0, edge));
      return { left: within(left), top: within(top), right: within(left + size), bottom: within(top + size) };
    }

    /** What the chosen unit sees and what the frame shows of it, in words. */
    sees() {
      const { size } = this.sight;
      const { left, top, right, bottom } = this.inside();
      const squared = (a, b) => `${a} \u00d7 ${b}`;
      const start = `It sees ${squared(size, size)} pixels`;
      if (right - left === size && bottom - top === size) return `${start}, framed in the picture.`;
      const larger = size > this.side ? `, more than the picture's ${squared(this.side, this.side)}` : "";
      return `${start}${larger}. The frame holds the ${squared(right - left, bottom - top)} that lie in the picture; the rest is padding.`;
    }

    /** The sum behind a unit: the input channels that weigh most, tap by tap, and the rest together. */
    written({ bias, parts, sum }, value) {
      const order = [...parts].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)).slice(0, 4);
      const rest = parts.reduce((total, part) => total + part.sum, 0) - order.reduce((total, part) => total + part.sum, 0);
      const side = Math.sqrt(order[0].taps.length);
      const grid = (part, key) => h("table", { class: "think-taps" }, h("tbody", {},
        Array.from({ length: side }, (_, row) => h("tr", {}, part.taps.slice(row * side, (row + 1) * side).map((tap) =>
          h("td", key === "value" && !tap.inside ? { class: "zero" } : {}, number(Number(tap[key].toPrecision(2)))))))));
      const rows = order.map((part) => h("tr", {},
        h("th", { scope: "row" }, String(part.input)), h("td", {}, grid(part, "value")), h("td", {}, grid(part, "weight")), h("td", {}, number(part.sum))));
      return [
        h("table", { class: "think-parts" },
          h("caption", {}, parts.length > order.length ? `The ${order.length} input channels that weigh most, of ${parts.length}` : "The input channels"),
          h("thead", {}, h("tr", {}, ["input", "what it holds", "filter", "sum"].map((text) => h("th", { scope: "col" }, text)))),
          h("tbody", {}, rows)),
        h("p", {}, `${order.map((part) => number(part.sum)).join(" + ")}${parts.length > order.length ? ` + ${number(rest)} of the others` : ""} + bias ${number(bias)} = ${number(sum)}; after ReLU ${number(value)}.`.replaceAll("+ \u2212", "\u2212 ")),
      ];
    }

    clicked(event) {
      const box = this.sheet.getBoundingClientRect();
      const column = Math.floor((8 * (event.clientX - box.left)) / box.width);
      const row = Math.floor(((this.sheet.height / 40) * (event.clientY - box.top)) / box.height);
      this.picked({ channel: row * 8 + column });
    }

    /** The unit of the large map under the pointer. */
    under(event) {
      const box = this.large.getBoundingClientRect();
      const map = this.maps.find((each) => each.name === this.spot.layer);
      const at = (value, length, count) => Math.min(count - 1, Math.max(0, Math.floor((count * value) / length)));
      return { x: at(event.clientX - box.left, box.width, map.w), y: at(event.clientY - box.top, box.height, map.h) };
    }

    /** Choose a unit by its column and row; what is kept is its place in the picture, so that other layers show the same place. */
    unit({ x, y }, pinned = this.spot.pinned) {
      const { field: seen } = this.net.layers.find((layer) => layer.name === this.spot.layer);
      const map = this.maps.find((each) => each.name === this.spot.layer);
      const within = (value, count) => Math.min(count - 1, Math.max(0, value));
      this.picked({ place: { x: middle(seen, within(x, map.w)), y: middle(seen, within(y, map.h)) }, pinned });
    }

    hovered(event) {
      const { x, y } = this.under(event);
      if (!this.spot.pinned && (x !== this.spot.x || y !== this.spot.y)) this.unit({ x, y });
    }

    /** A click pins the unit under it; on the pinned unit it releases. */
    pinned(event) {
      const { x, y } = this.under(event);
      this.unit({ x, y }, !(this.spot.pinned && x === this.spot.x && y === this.spot.y));
    }

    stepped(event) {
      if (event.key === "Enter") {
        event.preventDefault();
        this.picked({ pinned: !this.spot.pinned });
        return;
      }
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.unit({ x: this.spot.x + step[0], y: this.spot.y + step[1] });
    }

    layOcclusion() {
      const sweep = h("button", { type: "button", onclick: () => this.sweep(sweep) }, "Sweep the whole picture");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "sweep" });
      this.scale = h("p", { class: "think-scale", hidden: true });
      this.panel.replaceChildren(
        h("p", {}, "A grey patch lies on the picture. Drag it, and watch what the net loses when it covers the part that matters. "
          + "A sweep tries 9 \u00d7 9 places, and lifts the patch until you move it."),
        h("div", { class: "think-row" },
          field("Patch", slider({ min: 0.04, max: 0.3, step: 0.01, value: this.patch.half }, (event) => { this.patch.half = Number(event.target.value); this.heat = null; this.refresh(); })),
          sweep, this.progress),
        this.scale);
    }

    /** The posterior of what the picture shows, with the patch at each of n x n places. */
    async sweep(button) {
      const n = 9;
      const turn = this.turn;
      button.disabled = true;
      this.progress.hidden = false;
      const clear = (await think().ask("ask", { net: this.net.name, pictures: [this.picture(this.side)] })).result[0];
      const top = best(clear);
      const shares = [];
      for (let row = 0; row < n && turn === this.turn; row++) {
        const pictures = Array.from({ length: n }, (_, column) => this.picture(this.side, [{ ...this.patch, x: (column + 0.5) / n, y: (row + 0.5) / n, colour: GREY }]));
        shares.push((await think().ask("ask", { net: this.net.name, pictures })).result.map((posterior) => posterior[top]));
        this.progress.value = (row + 1) / n;
      }
      button.disabled = false;
      this.progress.hidden = true;
      if (turn !== this.turn) return;
      const lowest = shares.flat().reduce((a, b, i) => (b < a.share ? { share: b, i } : a), { share: 2, i: 0 });
      const worst = { row: Math.floor(lowest.i / n), column: lowest.i % n };
      this.heat = { n, shares, clear: clear[top], worst, whole: true };
      this.seen = this.picture(this.side);
      this.conclude(clear, `That is without a patch. The worst place for the patch's middle, framed, is row ${worst.row}, column ${worst.column} of the ${n} \u00d7 ${n}, counted from 0: `
        + `${this.net.classes[top]} falls to ${percent(lowest.share)}.`);
      this.scale.replaceChildren(`${this.net.classes[top]} with the patch there: ${percent(clear[top])} `, h("span", { class: "think-ramp", "aria-hidden": "true" }), " 0 %. The darker the orange, the more is lost.");
      this.draw();
    }

    drawHeat(pen) {
      const { n, shares, clear, worst } = this.heat;
      const cell = 256 / n;
      shares.forEach((line, row) => line.forEach((share, column) => {
        pen.fillStyle = `rgba(213, 94, 0, ${Math.max(0, 0.8 * (1 - share / clear))})`;
        pen.fillRect(column * cell, row * cell, cell, cell);
      }));
      frame(pen, worst.column * cell + 2, worst.row * cell + 2, cell - 4, cell - 4);
    }

    layTesting() {
      const largest = Math.round((512 / 224) * this.side);
      this.size = h("output", {}, `${this.q} pixels`);
      this.rows = h("tbody", {});
      this.crop = h("button", { type: "button", onclick: () => this.crops() }, "Try the 50 crops too");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "crops" });
      this.panel.replaceChildren(
        h("p", {}, `The net was trained on crops of ${this.side} pixels. A larger picture gives a map of answers, one a position; their mean is the dense answer.`),
        h("p", {}, "Dense is often less sure here than the centre crop: the crop's window is filled with the object, while dense averages over "
          + "all positions, and those at the picture's border hold less of it."),
        h("div", { class: "think-row" },
          field("Q, the picture's side", slider({ min: this.side, max: largest, step: 1, value: this.q }, (event) => { this.q = Number(event.target.value); this.size.textContent = `${this.q} pixels`; this.refresh(); })),
          this.size),
        h("table", { class: "think-parts" },
          h("thead", {}, h("tr", {}, ["method", "answer", "sure", "work"].map((text) => h("th", { scope: "col" }, text)))), this.rows),
        h("div", { class: "think-row" }, this.crop, this.progress));
    }

    line(method, posterior, macs) {
      const top = best(posterior);
      return h("tr", {}, h("th", { scope: "row" }, method), h("td", {}, this.net.classes[top]), h("td", {}, percent(posterior[top])), h("td", {}, millions(macs)));
    }

    async test(picture) {
      const turn = this.turn;
      const { result: dense, ms } = await think().ask("dense", { net: this.net.name, picture });
      const { result: centre } = await think().ask("centre", { net: this.net.name, picture });
      if (turn !== this.turn) return;
      this.map = dense;
      this.rows.replaceChildren(this.line("centre crop", centre.posterior, centre.macs), this.line(`dense, ${dense.rows} \u00d7 ${dense.columns} positions`, dense.posterior, dense.macs));
      this.conclude(dense.posterior, `The map has ${dense.rows} by ${dense.columns} positions; dense evaluation took ${Math.round(ms)} ms.`);
      this.draw();
    }

    async crops() {
      const turn = this.turn;
      this.crop.disabled = true;
      this.progress.hidden = false;
      try {
        const { result, ms } = await think().ask("crops", { net: this.net.name, picture: this.picture(this.q) }, (share) => { this.progress.value = share; });
        if (turn === this.turn) {
          this.rows.append(this.line("50 crops", result.posterior, result.macs));
          this.say(`The 50 crops took ${(ms / 1000).toFixed(1)} seconds.`);
        }
      } finally {
        this.crop.disabled = false;
        this.progress.hidden = true;
      }
    }

    /** The map of answers over the picture: a cell a position, its class and how sure. */
    drawMap(pen) {
      const { rows, columns, positions } = this.map;
      const cell = { w: 256 / columns, h: 256 / rows };
      pen.font = `${Math.max(9, Math.min(13, cell.w / 6))}px sans-serif`;
      pen.textAlign = "center";
      const names = this.net.classes;
      positions.forEach((posterior, i) => {
        const [left, upper] = [(i % columns) * cell.w, Math.floor(i / columns) * cell.h];
        const top = best(posterior);
        frame(pen, left + 1, upper + 1, cell.w - 2, cell.h - 2);
        if (columns > 4) return;
        pen.fillStyle = "rgba(0, 0, 0, 0.65)";
        pen.fillRect(left + 3, upper + cell.h / 2 - 17, cell.w - 6, 34);
        pen.fillStyle = "#fff";
        pen.fillText(names[top], left + cell.w / 2, upper + cell.h / 2 - 3, cell.w - 8);
        pen.fillText(percent(posterior[top]), left + cell.w / 2, upper + cell.h / 2 + 12, cell.w - 8);
      });
    }
  }

  function start() {
    for (const root of document.querySelectorAll("div.think")) root.instrument = new Instrument(root);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
