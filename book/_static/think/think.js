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
  const CELL = 32; // the side of a map in the sheet of all maps, in pixels, where there is room
  const FINGER = 27; // and where there is little
  const BRUSH = 0.05; // half its width, in units of the picture's side
  const engine = vggEngine(); // for what is too small for the worker

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

  /** A slider with its value beside it, in words; `oninput` hears the number. */
  function sliding(text, attributes, words, oninput) {
    const said = h("span", { class: "think-value", "aria-hidden": "true" });
    const control = h("input", { type: "range", ...attributes, oninput: () => { tell(); oninput(Number(control.value)); } });
    function tell() {
      said.textContent = words(Number(control.value));
      control.setAttribute("aria-valuetext", said.textContent);
    }
    tell();
    const node = field(text, control);
    control.before(said);
    return { control, tell, node };
  }

  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const millions = (macs) => `${(macs / 1e6).toLocaleString("en-US", { maximumFractionDigits: macs < 1e8 ? 1 : 0 })} million multiply-adds`;
  const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 3 }).replace("-", "\u2212");
  /** The channel that answers most at a place of a map. */
  const strongest = (map, { y, x }) => best(Array.from({ length: map.c }, (_, c) => map.data[(c * map.h + y) * map.w + x]));
  /** The unit of a layer whose field's middle lies nearest to a place in the picture (pixels along one axis), and back. */
  const nearest = ({ left, size, jump }, place, count) => clip(Math.round((place - left - size / 2) / jump), 0, count - 1);
  const middle = ({ left, size, jump }, unit) => left + size / 2 + unit * jump;
  const best = (posterior) => posterior.indexOf(Math.max(...posterior));
  const clip = (value, low, high) => Math.min(high, Math.max(low, value));
  /** How many units of a vector stand in a row of the square that it is folded into. */
  const folded = (count) => Math.ceil(Math.sqrt(count));
  const squared = (a, b) => `${a} \u00d7 ${b}`;
  /** One step of an arrow key: columns and rows; undefined for other keys. */
  const arrow = (event) => ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[event.key];

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

  /** Values row by row in grey, black at 0, white at `top`. */
  function greys(values, width, height, top) {
    const canvas = h("canvas", { width, height });
    const image = new ImageData(width, height);
    values.forEach((value, i) => {
      const grey = clip((255 * value) / (top || 1), 0, 255);
      image.data.set([grey, grey, grey, 255], 4 * i);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** The values of one channel of a map. */
  const plane = (map, channel) => map.data.subarray(channel * map.h * map.w, (channel + 1) * map.h * map.w);

  /** A square canvas made ready to draw in CSS pixels, with as many dots as the screen shows: its pen and its side. */
  function fresh(canvas) {
    const side = canvas.clientWidth || 256;
    const dots = Math.round(side * Math.min(3, window.devicePixelRatio || 1));
    canvas.width = dots;
    canvas.height = dots;
    const pen = canvas.getContext("2d");
    pen.scale(dots / side, dots / side);
    pen.imageSmoothingEnabled = false;
    return { pen, side };
  }

  /** A frame that shows on any ground: white inside black. */
  function frame(pen, left, top, width, height) {
    for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(left, top, width, height);
    }
  }

  /** A dot that shows on any ground. */
  function dot(pen, x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.strokeStyle = "#000";
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  /** The colour of a share: white at 0, the bars' blue at 1. */
  const tint = (share) => [0, 114, 178].map((value) => Math.round(255 + share * (value - 255)));

  function bars(node, names, posterior, label) {
    const order = posterior.map((share, index) => ({ share, index })).sort((a, b) => b.share - a.share).slice(0, 5);
    node.replaceChildren(
      ...order.map(({ share, index }) =>
        h("li", index === label ? { class: "right" } : {},
          h("span", { class: "think-name" }, names[index] + (index === label ? " (true)" : "")),
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
      this.brush = { x: 0.5, y: 0.5 };
      this.patch = { x: 0.5, y: 0.5, half: 0.12 };
      this.spot = { layer: null, channel: 0, place: { x: 0, y: 0 }, y: 0, x: 0, pinned: false };
      this.cell = { row: 0, column: 0 }; // the chosen score of the map
      this.about = -1; // the class whose scores are shown; -1: that of the answer
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
      const focused = document.activeElement === button;
      button.disabled = true;
      this.say("Loading.");
      try {
        this.use(await decode(await script("net-D.js", "D")));
        if (focused) (this.tabs.firstChild ?? this.canvas).focus({ preventScroll: true });
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
      this.about = -1;
      this.maps = null;
      this.spot = { layer: net.layers.find((layer) => layer.kind === "conv").name, channel: null, place: { x: this.side / 2, y: this.side / 2 }, pinned: false };
      this.build();
      this.refresh();
    }

    known() {
      return this.net.classes.length === this.tables.classes.length && this.net.classes.every((name, i) => name === this.tables.classes[i]);
    }

    /** From top to bottom: views, what the chosen view asks, the picture beside its map and what changes it, the answer, the rest. */
    build() {
      const { net } = this;
      this.canvas = h("canvas", {
        tabindex: 0, class: "think-picture", role: "application", "aria-label": "the picture",
        onpointerdown: (event) => this.pointed(event, true), onpointermove: (event) => this.pointed(event, false),
        onpointerup: () => { this.dragging = false; }, onpointercancel: () => { this.dragging = false; }, onkeydown: (event) => this.pressed(event),
      });
      this.answer = h("ol", { class: "think-answer", "aria-label": "the five most likely classes" });
      this.status = h("p", { class: "think-status", role: "status" });
      this.strange = h("p", { class: "think-strange", "aria-live": "polite" });
      this.caption = h("figcaption", {});
      this.second = h("figure", {});
      this.pair = h("div", { class: "think-pair" }, h("figure", {}, this.canvas, this.caption), this.second);
      this.asked = h("div", { class: "think-row think-asked" });
      this.below = h("div", { class: "think-below" });
      this.panel = h("div", { class: "think-panel" });
      this.tabs = h("div", { class: "think-tabs", role: "group", "aria-label": "view" }, this.views.length > 1
        ? this.views.map((name) => h("button", { type: "button", "data-view": name, "aria-pressed": String(name === this.view), onclick: () => this.show(name) }, TITLES[name])) : []);
      this.own ??= this.ownNet();
      this.root.replaceChildren(
        this.tabs,
        this.asked,
        h("div", { class: "think-stage" }, h("div", { class: "think-left" }, this.pair, this.below), this.changes()),
        h("div", { class: "think-said" },
          this.answer,
          h("div", {}, this.status, this.strange, h("p", { class: "think-net" }, `${net.name}: ${net.note || "no note"}`),
            h("details", {}, h("summary", {}, `The ${net.classes.length} classes`), h("p", { class: "think-classes" }, net.classes.join(", "))))),
        this.panel,
        this.own.node);
      new ResizeObserver(() => this.resized()).observe(this.pair);
      this.layout();
    }

    /** The fold with what changes the picture; open where there is room. */
    changes() {
      const { tables, net } = this;
      const select = (text, names, key) => {
        const made = names.map((name, value) => h("option", { value }, name));
        const known = (option) => !this.known() || net.classes.some((name) => name.split("-").includes(option.textContent));
        const strange = made.filter((option) => !known(option));
        const control = h("select", { onchange: () => this.altered({ [key]: Number(control.value) }) },
          made.filter(known), strange.length ? h("optgroup", { label: "not among the classes" }, strange) : null);
        return { control, node: field(text, control) };
      };
      const picture = h("select", { "data-long": "", onchange: () => this.another(Number(picture.value)) },
        tables.scenes.map((scene, value) => h("option", { value, selected: value === this.scene }, `${value + 1}: ${tables.classes[scene.label]}`)));
      const degrees = (value) => `${value}\u00b0`.replace("-", "\u2212");
      this.controls = {
        size: sliding("Size", { min: 0.4, max: 1.6, step: 0.05, value: 1 }, (value) => `${Math.round(100 * value)} %`, (size) => this.altered({ size })),
        turn: sliding("Turn", { min: -180, max: 180, step: 5, value: 0 }, degrees, (value) => this.altered({ turn: (value * Math.PI) / 180 })),
        shape: select("Outline", tables.shapeNames, "shape"),
        texture: select("Texture", tables.textureNames, "texture"),
        paint: sliding("Paint", { min: 0, max: 360, step: 5, value: 0 }, (value) => (this.change.light ? `hue ${value}\u00b0` : "its own"), (value) => this.repainted(value)),
      };
      this.unchanged();
      return h("details", { class: "think-change", open: window.matchMedia("(min-width: 600px)").matches },
        h("summary", {}, "Change the picture"),
        h("fieldset", {},
          h("legend", { class: "think-quiet" }, "The picture"),
          field("Picture", picture),
          ...Object.values(this.controls).map(({ node }) => node),
          h("div", { class: "think-field" },
            h("label", {}, h("input", { type: "checkbox", checked: this.painting, onchange: (event) => { this.painting = event.target.checked; this.captioned(); this.draw(); } }), " draw over it"),
            h("button", { type: "button", onclick: () => this.another(this.scene) }, "As it was"))));
    }

    /** The controls show the picture as it was. */
    unchanged() {
      const { object } = this.tables.scenes[this.scene];
      for (const [key, value] of Object.entries({ size: 1, turn: 0, paint: 0, shape: object.shape, texture: object.texture })) {
        this.controls[key].control.value = value;
        this.controls[key].tell?.();
      }
    }

    /** The field for a file, with the place where a refusal stands; it outlives the nets that are opened with it. */
    ownNet() {
      const alert = h("p", { class: "think-error", role: "alert", id: `think-${(serial += 1)}` });
      const opened = h("p", { class: "think-opened", "aria-live": "polite" });
      const control = h("input", { type: "file", accept: ".json,.js,application/json", "aria-describedby": alert.id, onchange: () => this.open(control.files[0]) });
      const node = h("details", {}, h("summary", {}, "Open a net of your own"),
        h("p", {}, "Any net that this package has trained: ", h("code", {}, "python -m vggbook.book.export runs/mine/last.pt mine.json"), ". It stays on your machine."),
        field("File", control), alert, opened);
      return { node, control, alert, opened, turn: 0 };
    }

    show(name) {
      this.view = name;
      this.heat = null;
      for (const button of this.tabs.children) button.setAttribute("aria-pressed", String(button.dataset.view === name));
      this.layout();
      this.refresh();
    }

    /** The exported net in a file, not yet decoded; an Error says why it is none. */
    async read(file) {
      if (file.type.startsWith("image/")) throw new Error(`${file.name} is a picture: choose an exported net, a .json file.`);
      const none = new Error(`${file.name} is no exported net: it is not JSON.`);
      const start = await file.slice(0, 100).text(); // a checkpoint of gigabytes is not read to its end
      if (!/^\s*(\{|vggThink\.add\()/.test(start)) throw none;
      try {
        return JSON.parse((await file.text()).trim().replace(/^vggThink\.add\(/, "").replace(/\);$/, ""));
      } catch {
        throw none;
      }
    }

    async open(file) {
      if (!file) return;
      const { control, alert, opened } = this.own;
      const focused = document.activeElement === control;
      const turn = (this.own.turn += 1); // an answer to an older file is dropped
      opened.textContent = "";
      try {
        const net = await decode(await this.read(file));
        if (turn !== this.own.turn) return;
        alert.textContent = "";
        control.removeAttribute("aria-invalid");
        this.use(net);
        opened.textContent = `${file.name} is open: ${net.name}, ${net.classes.length} classes.`;
        if (focused) control.focus({ preventScroll: true });
      } catch (error) {
        if (turn !== this.own.turn) return;
        alert.textContent = `${error.message} The net above stays.`;
        control.setAttribute("aria-invalid", "true");
        control.value = ""; // so that the same file, mended, can be chosen again
      }
    }

    // -- the reader's changes
    another(index) {
      this.scene = index;
      this.change = {};
      this.strokes = [];
      this.heat = null;
      this.unchanged();
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
      this.controls.paint.tell();
    }

    /** The scene with the reader's changes. */
    shown() {
      return window.vggScene.changed(this.tables.scenes[this.scene], this.change);
    }

    /** A place under the pointer in units of the picture's side; beyond the border it is below 0 or above 1. */
    place(event) {
      const box = this.canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    }

    /** What the hand moves: its middle, how far it reaches from there, and whether it lies under a place. */
    held() {
      const { x, y, half } = this.patch;
      if (this.view === "occlusion") return { x, y, reach: half, under: (at) => Math.max(Math.abs(at.x - x), Math.abs(at.y - y)) <= half };
      if (this.painting) return { ...this.brush, reach: 0, under: () => false };
      const scene = this.shown();
      return { x: scene.object.x, y: scene.object.y, reach: scene.object.r, under: (at) => window.vggScene.covers(this.tables, scene, at.x, at.y) };
    }

    /** What is taken keeps its place under the hand; a press beside it brings its middle there. */
    pointed(event, begins) {
      const at = this.place(event);
      if (begins) {
        this.dragging = true;
        this.canvas.setPointerCapture(event.pointerId);
        event.preventDefault();
        this.canvas.focus();
        const held = this.held();
        this.grip = held.under(at) ? { x: held.x - at.x, y: held.y - at.y } : { x: 0, y: 0 };
      }
      if (this.dragging) this.moved({ x: at.x + this.grip.x, y: at.y + this.grip.y });
      else if (this.view === "testing" && this.map && event.pointerType === "mouse") this.nearby(at);
    }

    /** Move what is held; it may leave the picture until it is just out of sight. */
    moved(to) {
      const { reach } = this.held();
      const x = clip(to.x, -reach, 1 + reach);
      const y = clip(to.y, -reach, 1 + reach);
      if (this.view === "occlusion") {
        Object.assign(this.patch, { x, y });
        if (this.heat) this.heat.whole = false; // the patch lies on the picture again
        this.refresh();
      } else if (this.painting) {
        this.brush = { x, y };
        this.strokes.push({ x, y, half: BRUSH, round: true, colour: GREY });
        this.altered({});
      } else this.altered({ x, y });
    }

    pressed(event) {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const { x, y } = this.held();
      this.moved({ x: x + step[0] / 32, y: y + step[1] / 32 });
    }

    // -- computing
    picture(side, extra = []) {
      return window.vggScene.paint(this.tables, { ...this.shown(), strokes: [...this.strokes, ...extra] }, side);
    }

    patched() {
      return this.view === "occlusion" && !this.heat?.whole ? [{ ...this.patch, colour: GREY }] : [];
    }

    /** Outline and texture of the object, as a class would be called. */
    named() {
      const { object } = this.shown();
      return `${this.tables.shapeNames[object.shape]}-${this.tables.textureNames[object.texture]}`;
    }

    /** The class of what the picture shows; -1 where it shows none of the net's. */
    label() {
      return this.known() && window.vggScene.inside(this.tables, this.shown()) > 0 ? this.tables.classes.indexOf(this.named()) : -1;
    }

    /** What the hand does to the picture. */
    captioned() {
      if (this.view === "occlusion") this.caption.textContent = "Drag the patch, or move it with the arrow keys.";
      else if (this.painting) this.caption.textContent = "Drag over the picture to draw; the arrow keys draw too.";
      else this.caption.textContent = "Drag the object, also over the border, or move it with the arrow keys.";
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
      if (this.map && this.map.q !== side) this.map = null; // the map of another size
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
      this.strange.textContent = [this.unknown(), this.cutOff()].filter(Boolean).join(" ");
      const top = best(posterior);
      this.say(`The net says ${this.net.classes[top]}, ${percent(posterior[top])}. ${rest}`);
    }

    /** What is to be said of an object that is no class. */
    unknown() {
      if (!this.known() || this.tables.classes.includes(this.named())) return "";
      return `There is no class ${this.named()}: the net knows only its ${this.net.classes.length}, and answers all the same.`;
    }

    /** What is to be said of an object that reaches over the border. */
    cutOff() {
      const share = window.vggScene.inside(this.tables, this.shown());
      if (share === 0) return "The object lies outside: the net sees the ground alone, and answers all the same. A press in the picture brings the object back.";
      if (share > 0.995) return "";
      return `${Math.round(100 * share)} % of the object lies in the picture. The net never sees the rest: beyond the border its convolutions read zeros.`;
    }

    draw() {
      if (!this.seen) return;
      const { pen, side } = fresh(this.canvas);
      const scale = side / this.seen.w;
      const mapped = this.view === "testing" && this.map;
      pen.drawImage(bitmap(mapped && this.over.checked ? this.overlaid() : this.seen), 0, 0, side, side);
      if (this.view === "occlusion") this.scale.hidden = !this.heat;
      if (this.view === "occlusion" && this.heat) this.drawHeat(pen, side);
      if (this.view === "occlusion" && !this.heat?.whole) {
        const { x, y, half } = this.patch;
        frame(pen, (x - half) * side, (y - half) * side, 2 * half * side, 2 * half * side);
      } else if (this.view !== "occlusion" && this.painting) {
        const { x, y } = this.brush;
        frame(pen, (x - BRUSH) * side, (y - BRUSH) * side, 2 * BRUSH * side, 2 * BRUSH * side);
      }
      if (this.view === "layers" && this.sight) this.framed(pen, scale, this.inside());
      if (mapped) this.drawScores(pen, scale);
      this.canvas.setAttribute("aria-label", this.described());
    }

    /** A frame round a part of the picture; at the border its whole line shows. */
    framed(pen, scale, { left, top, right, bottom }) {
      const at = (edge) => clip(edge * scale, 2, scale * this.seen.w - 2);
      frame(pen, at(left), at(top), at(right) - at(left), at(bottom) - at(top));
    }

    /** Draw anew at another width. */
    resized() {
      if (this.width === this.pair.clientWidth) return;
      this.width = this.pair.clientWidth;
      this.draw();
      if (this.view === "layers" && this.maps) this.drawUnits();
    }

    described() {
      const { object } = this.shown();
      const what = `${this.tables.shapeNames[object.shape]} with ${this.tables.textureNames[object.texture]}`;
      const moves = this.view === "occlusion" ? "move the patch" : this.painting ? "draw" : "move it";
      return `Picture of a ${what}, centre at ${Math.round(100 * object.x)} % from the left and ${Math.round(100 * object.y)} % from the top. Arrow keys ${moves}.`;
    }

    // -- views
    layout() {
      this.sight = null;
      this.map = null;
      this.captioned();
      ({ layers: () => this.layLayers(), occlusion: () => this.layOcclusion(), testing: () => this.layTesting() })[this.view]();
    }

    layLayers() {
      this.choice = h("select", { onchange: (event) => this.picked({ layer: event.target.value, channel: null }) },
        this.net.layers.map(({ name }) => h("option", { value: name, selected: name === this.spot.layer }, name)));
      this.channel = h("input", { type: "number", min: 0, value: 0, onchange: (event) => this.picked({ channel: Number(event.target.value) }) });
      this.sheet = h("canvas", { class: "think-sheet", role: "img", onclick: (event) => this.clicked(event) });
      this.vector = h("p", { class: "think-vector" });
      this.scores = h("ol", { class: "think-signed", "aria-label": "class scores" });
      this.large = h("canvas", {
        tabindex: 0, role: "application", class: "think-map",
        onpointermove: (event) => this.hovered(event), onclick: (event) => this.pinned(event), onkeydown: (event) => this.stepped(event),
      });
      this.hand = h("figcaption", {});
      this.sum = h("div", { class: "think-sum", "aria-live": "polite" });
      this.channelField = field("Channel", this.channel);
      this.asked.replaceChildren(field("Layer", this.choice), this.channelField);
      this.second.replaceChildren(this.scores, this.large, this.hand);
      this.below.replaceChildren(this.sheet, this.vector);
      this.panel.replaceChildren(this.sum);
    }

    picked(part) {
      Object.assign(this.spot, part);
      if (!this.maps) return; // they are on their way
      this.layer().then(() => this.draw()).catch((error) => this.say(error.message));
    }

    /** The chosen layer: its description, its map, and whether it gives vectors, and class scores. */
    chosen() {
      const { layers } = this.net;
      const layer = layers.find(({ name }) => name === this.spot.layer);
      return { layer, map: this.maps.find(({ name }) => name === layer.name), vector: layer.kind === "fc", last: layer === layers[layers.length - 1] };
    }

    /** The maps of the chosen layer, and one unit of one of them. */
    async layer() {
      const spot = this.spot;
      const { layer, map, vector, last } = this.chosen();
      const { field: seen, kind } = layer;
      spot.y = nearest(seen, spot.place.y, map.h);
      spot.x = nearest(seen, spot.place.x, map.w);
      spot.channel = clip(spot.channel ?? strongest(map, spot), 0, map.c - 1);
      this.channel.max = map.c - 1;
      this.channel.value = spot.channel;
      this.channelField.firstChild.textContent = vector ? "Unit" : "Channel";
      this.sight = { left: seen.left + spot.x * seen.jump, top: seen.left + spot.y * seen.jump, size: seen.size };
      const value = map.data[(spot.channel * map.h + spot.y) * map.w + spot.x];
      const place = vector ? `${layer.name}, unit ${spot.channel}${last ? ` (${this.net.classes[spot.channel]})` : ""}`
        : `${layer.name}, channel ${spot.channel}, row ${spot.y}, column ${spot.x}`;
      this.large.setAttribute("aria-label", `${place}: ${number(value)}${spot.pinned ? ", pinned" : ""}`);
      this.drawUnits();
      const line = h("p", {}, `${place}: `, h("strong", {}, number(value)), `. ${this.sees()}`);
      if (kind === "pool" || kind === "lrn") {
        this.sum.replaceChildren(line, h("p", {}, kind === "pool" ? "The largest of the units below it." : "The unit below it, divided by its neighbours' strength."));
        return;
      }
      const { result } = await think().ask("unit", { net: this.net.name, layer: spot.layer, channel: spot.channel, y: spot.y, x: spot.x });
      this.sum.replaceChildren(line, ...this.written(result, value, last));
    }

    /** The layer as a drawing: maps side by side and one of them large, or a vector folded into a square, or class scores as bars. */
    drawUnits() {
      const { layer, map, vector, last } = this.chosen();
      this.large.hidden = last;
      this.sheet.hidden = vector;
      this.vector.hidden = !vector;
      this.scores.replaceChildren();
      if (last) this.drawClasses(map);
      else if (vector) this.drawVector(layer, map);
      else this.drawMaps(map);
      this.hand.textContent = this.spot.pinned ? "Pinned: Escape or a second click on it releases it."
        : last ? "The class scores, bars from 0 to both sides. Choose one."
        : `${vector ? `${map.c} units` : `Channel ${this.spot.channel}: ${squared(map.h, map.w)} units`}. Point at one, or use the arrow keys; a click or Enter pins it.`;
    }

    /** How many maps stand side by side: as many as a finger can still choose. */
    columns() {
      return clip(Math.floor(this.below.clientWidth / FINGER), 8, 16);
    }

    drawMaps(map) {
      const { channel, x, y, layer } = this.spot;
      const top = map.data.reduce((a, b) => Math.max(a, b), 0);
      const columns = this.columns();
      const cell = CELL;
      this.sheet.width = columns * cell;
      this.sheet.height = Math.ceil(map.c / columns) * cell;
      const sheet = this.sheet.getContext("2d");
      sheet.imageSmoothingEnabled = false;
      for (let c = 0; c < map.c; c++) {
        const [left, upper] = [(c % columns) * cell, Math.floor(c / columns) * cell];
        sheet.drawImage(greys(plane(map, c), map.w, map.h, top), left + 1, upper + 1, cell - 2, cell - 2);
        if (c === channel) frame(sheet, left + 2, upper + 2, cell - 4, cell - 4);
      }
      this.sheet.setAttribute("aria-label", `The ${map.c} maps of ${layer}, ${map.h} by ${map.w} units each; channel ${channel} is chosen.`);
      const { pen, side } = fresh(this.large);
      pen.drawImage(greys(plane(map, channel), map.w, map.h, top), 0, 0, side, side);
      frame(pen, (x * side) / map.w, (y * side) / map.h, side / map.w, side / map.h);
    }

    /** The units of a vector row by row in a square; what is left of the last row stays empty. */
    drawVector(layer, map) {
      const columns = folded(map.c);
      const values = Array.from({ length: map.c }, (_, c) => map.data[(c * map.h + this.spot.y) * map.w + this.spot.x]);
      const { pen, side } = fresh(this.large);
      const cell = side / columns;
      const rows = Math.ceil(map.c / columns);
      const square = [...values, ...Array(rows * columns - map.c).fill(0)];
      pen.drawImage(greys(square, columns, rows, Math.max(...values)), 0, 0, side, rows * cell);
      const { channel } = this.spot;
      frame(pen, (channel % columns) * cell, Math.floor(channel / columns) * cell, cell, cell);
      const active = values.filter((value) => value > 0).length;
      const [high, wide] = this.net.grid;
      const first = layer === this.net.layers.find(({ kind }) => kind === "fc");
      this.vector.textContent = `${layer.name} is a vector: ${active} of its ${map.c} units answer (are above 0). A unit has no place in the picture; `
        + `the square folds the vector, ${rows} rows of ${columns}, black at 0, white at the strongest. `
        + `Read as a convolution, its kernel is ${first ? `the whole last map, ${squared(high, wide)}` : squared(1, 1)}.`;
    }

    /** The class scores as bars from 0 to both sides. */
    drawClasses(map) {
      const scores = Array.from({ length: map.c }, (_, c) => map.data[(c * map.h + this.spot.y) * map.w + this.spot.x]);
      const most = Math.max(...scores.map(Math.abs), 1e-9);
      const bar = (score) => h("span", { class: "think-zero", "aria-hidden": "true" },
        h("span", { class: score < 0 ? "below" : "", style: `left:${50 + Math.min(0, (50 * score) / most)}%;width:${(50 * Math.abs(score)) / most}%` }));
      const choose = (channel) => {
        this.picked({ channel });
        this.scores.querySelectorAll("button")[channel].focus({ preventScroll: true });
      };
      this.scores.replaceChildren(...scores.map((score, c) => h("li", {},
        h("button", { type: "button", "aria-pressed": String(c === this.spot.channel), onclick: () => choose(c) },
          h("span", {}, this.net.classes[c]), h("span", { class: "think-share" }, score.toFixed(1).replace("-", "\u2212"))),
        bar(score))));
      this.vector.textContent = `The last layer gives ${map.c} scores, one a class, below 0 too: no ReLU follows. The soft-max makes the shares of the answer from them.`;
    }

    /** The part of the chosen unit's field that lies in the picture: first and last edges, in pixels. */
    inside() {
      const { left, top, size } = this.sight;
      const within = (edge) => clip(edge, 0, this.side);
      return { left: within(left), top: within(top), right: within(left + size), bottom: within(top + size) };
    }

    /** What the chosen unit sees and what the frame shows of it, in words. */
    sees() {
      const { size } = this.sight;
      const { left, top, right, bottom } = this.inside();
      const start = `It sees ${squared(size, size)} pixels`;
      if (right - left === size && bottom - top === size) return `${start}, framed in the picture.`;
      const larger = size > this.side ? `, more than the picture's ${squared(this.side, this.side)}` : "";
      return `${start}${larger}. The frame holds the ${squared(right - left, bottom - top)} that lie in the picture; the rest is padding.`;
    }

    /** The sum behind a unit: the input channels that weigh most, tap by tap, and the rest together. */
    written({ bias, parts, columns, sum }, value, last) {
      const order = [...parts].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)).slice(0, 4);
      const rest = parts.reduce((total, part) => total + part.sum, 0) - order.reduce((total, part) => total + part.sum, 0);
      const single = order[0].taps.length === 1;
      const inputs = single ? "inputs" : "input channels";
      const rows = (part) => Array.from({ length: part.taps.length / columns }, (_, row) => part.taps.slice(row * columns, (row + 1) * columns));
      const grid = (part, key) => h("table", { class: "think-taps" }, h("tbody", {}, rows(part).map((taps) => h("tr", {}, taps.map((tap) =>
        h("td", key === "value" && !tap.inside ? { class: "zero" } : {}, number(Number(tap[key].toPrecision(2)))))))));
      const lines = order.map((part) => h("tr", {},
        h("th", { scope: "row" }, String(part.input)), h("td", {}, grid(part, "value")), h("td", {}, grid(part, "weight")), h("td", {}, number(part.sum))));
      const end = last ? ", the class score: no ReLU follows." : `; after ReLU ${number(value)}.`;
      return [
        h("table", { class: "think-parts" },
          h("caption", {}, parts.length > order.length ? `The ${order.length} ${inputs} that weigh most, of ${parts.length}` : `The ${inputs}`),
          h("thead", {}, h("tr", {}, ["input", "what it holds", single ? "weight" : "filter", "sum"].map((text) => h("th", { scope: "col" }, text)))),
          h("tbody", {}, lines)),
        h("p", {}, `${order.map((part) => number(part.sum)).join(" + ")}${parts.length > order.length ? ` + ${number(rest)} of the others` : ""} + bias ${number(bias)} = ${number(sum)}${end}`.replaceAll("+ \u2212", "\u2212 ")),
      ];
    }

    clicked(event) {
      const box = this.sheet.getBoundingClientRect();
      const column = Math.floor((this.columns() * (event.clientX - box.left)) / box.width);
      const row = Math.floor(((this.sheet.height / CELL) * (event.clientY - box.top)) / box.height);
      this.picked({ channel: row * this.columns() + column });
    }

    /** The unit of the large drawing under the pointer: its column and row in a map, its number in a vector. */
    under(event) {
      const box = this.large.getBoundingClientRect();
      const { map, vector } = this.chosen();
      const at = (value, length, count) => clip(Math.floor((count * value) / length), 0, count - 1);
      const place = (columns, rows) => ({ x: at(event.clientX - box.left, box.width, columns), y: at(event.clientY - box.top, box.height, rows) });
      if (!vector) return place(map.w, map.h);
      const columns = folded(map.c);
      const { x, y } = place(columns, columns);
      return { channel: Math.min(map.c - 1, y * columns + x) };
    }

    /** Is this unit of the large drawing the chosen one? */
    same({ x = this.spot.x, y = this.spot.y, channel = this.spot.channel }) {
      return x === this.spot.x && y === this.spot.y && channel === this.spot.channel;
    }

    /** Choose a unit by its column and row, or by its number in a vector; what is kept is its place in the picture, so that other
     *  layers show the same place. */
    unit({ x, y, channel }, pinned = this.spot.pinned) {
      const { layer, map } = this.chosen();
      if (channel !== undefined) {
        this.picked({ channel: clip(channel, 0, map.c - 1), pinned });
        return;
      }
      this.picked({ place: { x: middle(layer.field, clip(x, 0, map.w - 1)), y: middle(layer.field, clip(y, 0, map.h - 1)) }, pinned });
    }

    hovered(event) {
      const at = this.under(event);
      if (!this.spot.pinned && !this.same(at)) this.unit(at);
    }

    /** A click pins the unit under it; on the pinned unit it releases. */
    pinned(event) {
      const at = this.under(event);
      this.unit(at, !(this.spot.pinned && this.same(at)));
    }

    stepped(event) {
      if (event.key === "Enter") {
        event.preventDefault();
        this.picked({ pinned: !this.spot.pinned });
        return;
      }
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const { map, vector } = this.chosen();
      if (vector) this.unit({ channel: this.spot.channel + step[0] + step[1] * folded(map.c) });
      else this.unit({ x: this.spot.x + step[0], y: this.spot.y + step[1] });
    }

    layOcclusion() {
      const sweep = h("button", { type: "button", onclick: () => this.sweep(sweep) }, "Sweep the whole picture");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "sweep" });
      this.scale = h("p", { class: "think-scale", hidden: true });
      const half = sliding("Patch", { min: 0.04, max: 0.3, step: 0.01, value: this.patch.half }, (value) => `${Math.round(200 * value)} % of the side`,
        (value) => { this.patch.half = value; this.heat = null; this.refresh(); });
      this.asked.replaceChildren(half.node, sweep, this.progress);
      this.second.replaceChildren(h("p", { class: "think-text" }, "A grey patch lies on the picture. Drag it, and watch what the net loses when it covers the part "
        + "that matters. A sweep tries 9 \u00d7 9 places, and lifts the patch until you move it."));
      this.below.replaceChildren(this.scale);
      this.panel.replaceChildren();
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

    drawHeat(pen, side) {
      const { n, shares, clear, worst } = this.heat;
      const cell = side / n;
      shares.forEach((line, row) => line.forEach((share, column) => {
        pen.fillStyle = `rgba(213, 94, 0, ${Math.max(0, 0.8 * (1 - share / clear))})`;
        pen.fillRect(column * cell, row * cell, cell, cell);
      }));
      frame(pen, worst.column * cell + 2, worst.row * cell + 2, cell - 4, cell - 4);
    }

    layTesting() {
      const largest = Math.round((512 / 224) * this.side);
      const q = sliding("Q, the picture's side", { min: this.side, max: largest, step: 1, value: this.q }, (value) => `${value} pixels`,
        (value) => { this.q = value; this.refresh(); });
      this.of = h("select", { onchange: () => { this.about = Number(this.of.value); this.showScores(); } },
        ["the answer", ...this.net.classes].map((name, i) => h("option", { value: i - 1, selected: i - 1 === this.about }, name)));
      this.over = h("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
      this.rows = h("tbody", {});
      this.crop = h("button", { type: "button", onclick: () => this.crops() }, "Try the 50 crops too");
      this.progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "crops" });
      this.cells = h("div", { class: "think-scores", role: "group", onkeydown: (event) => this.stepScore(event) });
      this.hand = h("figcaption", {});
      this.told = h("p", { class: "think-told", "aria-live": "polite" });
      this.resolution = h("p", { class: "think-resolution" });
      this.asked.replaceChildren(q.node, field("Scores of", this.of), h("div", { class: "think-field" }, h("label", {}, this.over, " map over the picture")));
      this.second.replaceChildren(this.cells, this.hand);
      this.below.replaceChildren(this.told, this.resolution);
      this.panel.replaceChildren(
        h("table", { class: "think-parts" },
          h("thead", {}, h("tr", {}, ["method", "answer", "sure", "work"].map((text) => h("th", { scope: "col" }, text)))), this.rows),
        h("div", { class: "think-row" }, this.crop, this.progress),
        h("p", {}, `The net was trained on crops of ${this.side} pixels. A larger picture gives a map of answers, one a position; their mean is the dense answer. `
          + "Dense is often less sure here than the centre crop: the crop's window is filled with the object, while dense averages over "
          + "all positions, and those at the picture's border hold less of it."));
    }

    line(method, posterior, macs) {
      const top = best(posterior);
      return h("tr", {}, h("th", { scope: "row" }, method), h("td", {}, this.net.classes[top]), h("td", {}, percent(posterior[top])), h("td", {}, millions(macs)));
    }

    async test(picture) {
      const turn = this.turn;
      const { result: dense, ms } = await think().ask("dense", { net: this.net.name, picture });
      const { result: centre } = await think().ask("centre", { net: this.net.name, picture });
      if (turn !== this.turn || this.view !== "testing") return;
      const { field: seen } = this.net.layers.find((layer) => layer.kind === "fc");
      this.map = { ...dense, q: picture.w, jump: seen.jump, field: seen.size };
      this.rows.replaceChildren(this.line("centre crop", centre.posterior, centre.macs), this.line(`dense, ${squared(dense.rows, dense.columns)} positions`, dense.posterior, dense.macs));
      this.conclude(dense.posterior, `The map has ${dense.rows} by ${dense.columns} positions; dense evaluation took ${Math.round(ms)} ms.`);
      this.showScores();
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

    // -- the score map
    /** The class whose scores are shown. */
    subject() {
      return this.about < 0 ? best(this.map.posterior) : this.about;
    }

    /** The crop that a score answers for, in pixels. A net that reads the picture in steps of `jump` gives its score (row, column) to
     *  the crop that begins so many steps from the corner. */
    windowOf({ row, column }) {
      const [left, top] = [column * this.map.jump, row * this.map.jump];
      return { left, top, right: left + this.net.size[1], bottom: top + this.net.size[0] };
    }

    /** The score map as a table of what the net computed, a button a score. */
    showScores() {
      const { map } = this;
      if (!map) return;
      const subject = this.subject();
      this.cell = { row: Math.min(this.cell.row, map.rows - 1), column: Math.min(this.cell.column, map.columns - 1) };
      const head = (i) => h("span", { class: "think-axis", "aria-hidden": "true" }, String(i));
      const button = (share, row, column) => {
        const colour = tint(share);
        const whole = `${Math.round(100 * share)} %`;
        return h("button", {
          type: "button", "data-row": row, "data-column": column, class: share > 0.95 ? "dark" : null,
          style: `background:rgb(${colour})`, "aria-label": `row ${row}, column ${column}: ${whole}`,
          onpointerenter: () => this.choose({ row, column }), onclick: () => this.choose({ row, column }), onfocus: () => this.choose({ row, column }),
        }, map.columns > 5 ? "" : whole);
      };
      const lines = Array.from({ length: map.rows }, (_, row) => [head(row), ...Array.from({ length: map.columns }, (__, column) =>
        button(map.positions[row * map.columns + column][subject], row, column))]);
      this.cells.style.gridTemplate = `1.4em repeat(${map.rows}, minmax(0, 1fr)) / 1em repeat(${map.columns}, minmax(0, 1fr))`;
      this.cells.replaceChildren(h("span", {}), ...Array.from({ length: map.columns }, (_, column) => head(column)), ...lines.flat());
      const name = this.net.classes[subject];
      this.cells.setAttribute("aria-label", `score map of ${name}, ${map.rows} rows by ${map.columns} columns`);
      this.hand.textContent = `Score map: how sure of ${name}. Point at a score, or use the arrow keys.`;
      const few = map.rows * map.columns;
      this.resolution.replaceChildren(h("span", {}, "0 % ", h("span", { class: "think-ramp shares", "aria-hidden": "true" }), ` 100 % ${name}. `),
        few === 1 ? "One score, at the dot. " : `${few} scores, at the dots, ${map.jump} pixels apart; the colours between are interpolated and hold nothing more. `,
        "Where the picture keeps its colours there is no score.");
      this.choose(this.cell);
    }

    /** Choose a score: its window is framed in the picture, and its answer said. */
    choose({ row, column }) {
      if (!this.map) return; // that of another size is on its way
      this.cell = { row, column };
      for (const button of this.cells.querySelectorAll("button")) {
        const here = Number(button.dataset.row) === row && Number(button.dataset.column) === column;
        button.setAttribute("aria-pressed", String(here));
        button.tabIndex = here ? 0 : -1;
      }
      this.told.textContent = this.answered();
      this.draw();
    }

    /** What the chosen score answers for, and what it says. */
    answered() {
      const { map, cell } = this;
      const { left, top, right, bottom } = this.windowOf(cell);
      const posterior = map.positions[cell.row * map.columns + cell.column];
      const [first, subject] = [best(posterior), this.subject()];
      const says = (c) => `${this.net.classes[c]} ${percent(posterior[c])}`;
      const whole = right - left >= map.q && bottom - top >= map.q;
      return `Row ${cell.row}, column ${cell.column}: ${says(first)}${first === subject ? "" : `, ${says(subject)}`}. `
        + (whole ? "Its window is the whole picture."
          : `Its window, framed: pixels ${left} to ${right - 1} across, ${top} to ${bottom - 1} down. `
            + `Where a crop would end in zeros, the score sees on into the picture: its field is ${squared(map.field, map.field)}.`);
    }

    /** The score nearest to a place in the picture. */
    nearby({ x, y }) {
      const { q, jump, rows, columns } = this.map;
      const index = (place, size, count) => clip(Math.round((place * q - size / 2) / jump), 0, count - 1);
      const [row, column] = [index(y, this.net.size[0], rows), index(x, this.net.size[1], columns)];
      if (row !== this.cell.row || column !== this.cell.column) this.choose({ row, column });
    }

    stepScore(event) {
      const step = arrow(event);
      if (!step || !this.map) return;
      event.preventDefault();
      const row = clip(this.cell.row + step[1], 0, this.map.rows - 1);
      const column = clip(this.cell.column + step[0], 0, this.map.columns - 1);
      this.cells.querySelector(`button[data-row="${row}"][data-column="${column}"]`).focus({ preventScroll: true });
    }

    /** The picture, grey and tinted where the map has scores: each score at the middle of its window, interpolated in between. */
    overlaid() {
      const { map, seen } = this;
      const subject = this.subject();
      const shares = engine.smooth(map.positions.map((posterior) => posterior[subject]), map.rows, map.columns, map.jump);
      const [upper, left] = this.net.size.map((side) => Math.round((side - map.jump) / 2));
      const width = map.columns * map.jump;
      const data = Float32Array.from(seen.data);
      const area = seen.h * seen.w;
      shares.forEach((share, i) => {
        const at = (upper + Math.floor(i / width)) * seen.w + left + (i % width);
        const grey = (seen.data[at] + seen.data[area + at] + seen.data[2 * area + at]) / 3;
        tint(share).forEach((colour, c) => { data[c * area + at] = 0.35 * grey + 0.65 * colour; });
      });
      return { ...seen, data };
    }

    /** The places of the scores, and the window of the chosen one. */
    drawScores(pen, scale) {
      const { rows, columns } = this.map;
      const chosen = this.windowOf(this.cell);
      this.framed(pen, scale, chosen);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const { left, top, right, bottom } = this.windowOf({ row, column });
          const here = left === chosen.left && top === chosen.top;
          dot(pen, (scale * (left + right)) / 2, (scale * (top + bottom)) / 2, here ? 5 : 2.5);
        }
      }
    }
  }

  function start() {
    for (const root of document.querySelectorAll("div.think")) root.instrument = new Instrument(root);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
