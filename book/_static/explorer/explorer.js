/* The explorer: a configuration layer by layer, and a stack of kernels against a single one.
 *
 * Every <div class="explorer" data-view="network|stack" ...> of the page becomes one. The upper half of the file is arithmetic
 * without a page (window.vggExplorer), tested against src/vggbook in a browser; the lower half draws. No framework, no kernel.
 * connections.js, testing.js and memory.js add a view each, with the same helpers (vggExplorer.kit).
 */
(() => {
  "use strict";
  const HERE = new URL(".", document.currentScript.src).href;

  // ---- arithmetic ------------------------------------------------------------------------------------------------------------

  const LIMIT = { side: 2048, channels: 4096, layers: 12 };
  const configNamed = (name) => window.vggConfigs.find((config) => config.name === name);

  /** The field one layer further: size grows by (kernel - 1) jumps, and only the stride changes the jump. */
  const grow = (field, kernel, stride = 1, pad = 0) => ({
    size: field.size + (kernel - 1) * field.jump,
    jump: field.jump * stride,
    start: field.start + ((kernel - 1) / 2 - pad) * field.jump,
  });

  /** Output side of a pooling layer, rounded down or up; a window that would start outside the map is dropped. */
  function pooled(side, { kernel, stride, ceil }) {
    if (!ceil) return Math.floor((side - kernel) / stride) + 1;
    const out = Math.ceil((side - kernel) / stride) + 1;
    return (out - 1) * stride >= side ? out - 1 : out;
  }

  /** A whole number from low to high, or an Error with the reason; `what` names it. */
  function whole(value, what, low, high, why = "") {
    const text = String(value).trim();
    if (text === "") throw new RangeError(`${what} is empty: give a whole number from ${low} to ${high}.`);
    const number = Number(text);
    const refused = (reason) => new RangeError(`${what} is ${text}: ${reason}. Allowed: whole numbers from ${low} to ${high}.`);
    if (!Number.isInteger(number)) throw refused("only a whole number makes sense");
    if (number < low) throw refused(why || `at least ${low} is needed`);
    if (number > high) throw refused(`the drawing stops at ${high}`);
    return number;
  }

  /** All layers of a configuration for one square image: name, kind, shape, params, macs, bytes, field. */
  function trace(name, imageSide = 224, { classes = 1000, batchNorm = false, bytesPerValue = 4 } = {}) {
    const config = configNamed(name);
    if (!config) throw new RangeError(`unknown configuration ${name}`);
    let side = whole(imageSide, "The input size", config.smallest, LIMIT.side,
      `nothing is left after the last pooling of ${name}; at least ${config.smallest} pixels a side are needed`);
    const rows = [];
    let channels = 3;
    let field = { size: 1, jump: 1, start: 0.5 };
    const push = (layer, kind, shape, params = 0, macs = 0) => rows.push({
      name: layer, kind, shape, params, macs, field,
      bytes: shape.reduce((a, b) => a * b, 1) * bytesPerValue,
    });
    for (const layer of config.layers) {
      if (layer.kind === "conv") {
        side = Math.floor((side + 2 * layer.pad - layer.kernel) / layer.stride) + 1;
        field = grow(field, layer.kernel, layer.stride, layer.pad);
        const weights = layer.kernel ** 2 * (channels / layer.groups) * layer.channels;
        channels = layer.channels;
        push(layer.name, "conv", [channels, side, side], weights + channels, weights * side * side);
        if (batchNorm) push(layer.name.replace("conv", "bn"), "bn", [channels, side, side], 2 * channels);
      } else {
        if (layer.kind === "pool") {
          side = pooled(side, layer);
          field = grow(field, layer.kernel, layer.stride);
        }
        push(layer.name, layer.kind, [channels, side, side]);
      }
    }
    field = { ...grow(field, side), jump: field.jump }; // the first FC layer is a convolution over the whole last map
    let features = channels * side * side;
    for (const { name: layer, width } of config.fc) {
      const out = width ?? classes;
      push(layer, "fc", [out], features * out + out, features * out);
      features = out;
    }
    return rows;
  }

  const total = (rows, key) => rows.reduce((sum, row) => sum + row[key], 0);

  /** The square of the input that unit (row, column) of a layer sees; edges in pixels, of which `inside` lies on the picture. */
  function window_(row, imageSide, i = 0, j = 0) {
    const left = row.field.start - row.field.size / 2;
    const [top, lft] = [left + i * row.field.jump, left + j * row.field.jump];
    const span = (from) => Math.max(0, Math.min(imageSide, from + row.field.size) - Math.max(0, from));
    return { top, left: lft, size: row.field.size, inside: span(top) * span(lft) };
  }

  /** A stack of convolutions (numbers: kernel sides) and 2x2 poolings ("pool") with C channels, and the single convolution that
   *  has the same receptive field, stride, input and output. Weights without biases unless `biases`; all padded to keep the map. */
  function stack(layers, { channels = 64, inputs = channels, side = 56, biases = false } = {}) {
    const C = whole(channels, "Channels", 1, LIMIT.channels);
    const cin = whole(inputs, "Input channels", 1, LIMIT.channels);
    let map = whole(side, "The map's side", 1, LIMIT.side);
    if (layers.length > LIMIT.layers) throw new RangeError(`The drawing stops at ${LIMIT.layers} layers; remove one first.`);
    let field = { size: 1, jump: 1, start: 0.5 };
    let depth = cin;
    const rows = layers.map((layer, index) => {
      const kernel = layer === "pool" ? 2 : layer;
      if (layer === "pool" && map < 2) {
        throw new RangeError(`Layer ${index + 1} would pool a map of side 1: enlarge the map or remove a pooling.`);
      }
      field = grow(field, kernel, layer === "pool" ? 2 : 1);
      if (layer === "pool") map = Math.floor(map / 2);
      const weights = layer === "pool" ? 0 : kernel ** 2 * depth * C;
      if (layer !== "pool") depth = C;
      return { layer, kernel, side: map, size: field.size, jump: field.jump, macs: weights * map ** 2,
        weights: weights + (biases && layer !== "pool" ? C : 0) };
    });
    const single = field.size ** 2 * cin * depth;
    return {
      rows, size: field.size, jump: field.jump, side: map, outputs: depth,
      convs: layers.filter((layer) => layer !== "pool").length,
      weights: total(rows, "weights"), macs: total(rows, "macs"),
      single: { kernel: field.size, stride: field.jump, weights: single + (biases ? depth : 0), macs: single * map ** 2 },
    };
  }

  window.vggExplorer = { trace, stack, window: window_, total, grow, LIMIT };

  // ---- words and elements ----------------------------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";
  const fill = (node, attributes, children) => {
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child != null));
    return node;
  };
  const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const label = (x, y, text, attributes = {}) => s("text", { x, y, ...attributes }, text);

  /** Text in a drawing does not wrap: what a wide font makes too long is set a little narrower. */
  function fitText(svg) {
    const width = svg.getBoundingClientRect().width;
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBBox();
      const over = Math.max(box.x + box.width - width, -box.x);
      if (over > 0) {
        text.setAttribute("textLength", Math.max(20, box.width - over - 1));
        text.setAttribute("lengthAdjust", "spacingAndGlyphs");
      }
    }
  }

  const count = (n) => n.toLocaleString("en-US");
  const fixed = (n, digits) => n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const short = (n) => {
    if (n < 1e4) return count(Math.round(n));
    const [unit, name] = n >= 1e9 ? [1e9, "G"] : n >= 1e6 ? [1e6, "M"] : [1e3, "k"];
    return `${(n / unit).toPrecision(3)} ${name}`;
  };
  const pixels = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(1)).replace("-", "\u2212");
  const times = "\u00d7";
  const KINDS = { conv: "convolution", bn: "batch normalisation", lrn: "local response normalisation",
    pool: "max-pooling", fc: "fully connected" };
  let made = 0;
  const fresh = () => `ex-${++made}`;

  /** A labelled control; below it, where given, the place of the reason why its value is refused. */
  const control = (text, node, error = null) => {
    node.id = fresh();
    return h("div", { class: "ex-control" }, h("label", { for: node.id }, text), node, error);
  };

  /** Run `action`; show the reason where it refuses, and mark the control that caused it. */
  function guarded(error, inputs, action) {
    try {
      action();
      error.textContent = "";
      inputs.forEach((input) => { input.removeAttribute("aria-invalid"); input.removeAttribute("aria-describedby"); });
      return true;
    } catch (reason) {
      if (!(reason instanceof RangeError)) throw reason;
      error.textContent = `${reason.message} The figures below are still those of the last possible setting.`;
      inputs.filter((input) => input.dataset.what && reason.message.startsWith(input.dataset.what)).forEach((input) => {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", error.id);
      });
      return false;
    }
  }

  /** Draw now and whenever the width changes. */
  function onWidth(root, draw) {
    let width = 0;
    new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - width) > 1) { width = root.clientWidth; draw(); }
    }).observe(root);
  }

  // ---- a network, layer by layer ---------------------------------------------------------------------------------------------

  // What the last layer gives, in numbers: ImageNet's classes, or the boxes of Appendix A.
  const HEADS = [[1000, "1000 class scores"], [4, "one box: 4 numbers"], [4000, "a box a class: 4000"]];

  function networkView(root) {
    const { config = "D", size = "224", layer = "", view } = root.dataset;
    const state = { config, side: 224, layer, unit: null, rows: [] };
    const choose = h("select", { onchange: () => { state.config = choose.value; update(); } },
      window.vggConfigs.map((c) => h("option", { value: c.name, selected: c.name === config },
        `${c.name}, ${c.depth} layers`)));
    const side = h("input", { type: "number", min: 1, max: LIMIT.side, step: 1, value: size, inputmode: "numeric",
      "data-what": "The input size", oninput: () => update() });
    const norm = h("input", { type: "checkbox", onchange: () => update() });
    const head = h("select", { onchange: () => update() },
      HEADS.map(([outputs, words]) => h("option", { value: outputs }, words)));
    const which = h("select", { "data-long": "", onchange: () => { state.layer = which.value; state.unit = null; render(); } });
    const slider = (axis) => h("input", { type: "range", min: 0, step: 1, oninput: (event) => {
      state.unit[axis] = Number(event.target.value); renderField();
    } });
    const sliders = [slider(0), slider(1)];
    const error = h("p", { class: "ex-error", role: "alert", id: fresh() });
    const summary = h("p", { class: "ex-summary", role: "status", "aria-live": "polite" });
    const facts = h("dl", { class: "ex-facts" });
    const picture = h("div", { class: "ex-picture" });
    const chart = h("div", { class: "ex-chart" });
    const table = h("div", { class: "ex-scroll", role: "region", tabindex: 0 });
    const unitBox = h("div", { class: "ex-controls" }, control("Row of the unit", sliders[0]), control("Column", sliders[1]));
    const normBox = control("Batch normalisation (not in the paper)", norm);
    normBox.classList.add("ex-check");

    root.replaceChildren(
      h("div", { class: "ex-controls" }, control("Configuration", choose), control("Input side, pixels", side),
        control("Layer", which), control("Last layer gives", head), normBox),
      error,
      h("div", { class: "ex-columns" },
        h("div", {}, picture, unitBox),
        h("div", {}, summary, facts)),
      chart,
      h("details", { class: "ex-table", open: view === "network" && root.hasAttribute("data-table") },
        h("summary", {}, "All layers as a table"), table),
    );

    const row = () => state.rows.find((r) => r.name === state.layer);

    function update() {
      const done = guarded(error, [side], () => {
        const rows = trace(state.config, side.value, { batchNorm: norm.checked, classes: Number(head.value) });
        Object.assign(state, { rows, shown: state.config, side: Number(side.value), unit: null });
      });
      if (!done) return;
      if (!row()) {
        const spatial = state.rows.filter((r) => r.kind === "conv");
        state.layer = spatial[spatial.length - 1].name;
      }
      which.replaceChildren(...state.rows.map((r) => h("option", { value: r.name, selected: r.name === state.layer },
        `${r.name} (${KINDS[r.kind]})`)));
      renderTable();
      render();
    }

    function render() {
      const r = row();
      const map = r.shape.length === 3 ? r.shape[1] : 1;
      state.unit ??= [Math.floor((map - 1) / 2), Math.floor((map - 1) / 2)];
      sliders.forEach((input, axis) => {
        input.max = map - 1;
        input.value = state.unit[axis];
        input.disabled = map === 1;
      });
      renderField();
      renderChart();
      for (const line of table.querySelectorAll("tbody tr")) {
        if (line.dataset.layer === r.name) line.setAttribute("aria-current", "true");
        else line.removeAttribute("aria-current");
      }
    }

    function renderField() {
      const r = row();
      const [i, j] = state.unit;
      const seen = window_(r, state.side, i, j);
      const outside = 1 - seen.inside / seen.size ** 2;
      const shape = r.shape.join(` ${times} `);
      const where = r.shape.length === 3 ? `The unit in row ${i}, column ${j}` : "Every unit";
      summary.textContent = `${r.name} of ${state.shown} at ${state.side} ${times} ${state.side}: `
        + `${where} sees ${seen.size} ${times} ${seen.size} pixels of the input`
        + (outside > 0 ? `, of which ${fixed(100 * outside, 1)}% lie outside the picture, on zero padding.` : ", all inside the picture.");
      const lines = [
        ["Kind", KINDS[r.kind]],
        ["Output", shape],
        ["Parameters", count(r.params)],
        ["Multiply-adds", count(r.macs)],
        ["Output in memory (float32)", `${fixed(r.bytes / 1e6, 2)} MB`],
        ["Receptive field", `${seen.size} pixels, neighbours ${r.field.jump} apart`],
        ["All layers: parameters", count(total(state.rows, "params"))],
        ["All layers: multiply-adds", count(total(state.rows, "macs"))],
        ["All layers: outputs", `${fixed(total(state.rows, "bytes") / 1e6, 2)} MB`],
      ];
      facts.replaceChildren(...lines.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", { "data-fact": term }, value))));
      sliders.forEach((input, axis) => input.setAttribute("aria-valuetext", `${axis ? "column" : "row"} ${state.unit[axis]}`));
      drawPicture(r, seen);
    }

    function drawPicture(r, seen) {
      const last = Math.max(...state.rows.map((x) => {
        const map = x.shape.length === 3 ? x.shape[1] : 1;
        return x.field.start - x.field.size / 2 + (map - 1) * x.field.jump + x.field.size;
      }), state.side);
      const first = Math.min(...state.rows.map((x) => x.field.start - x.field.size / 2), 0);
      const span = last - first;
      const pad = span * 0.03;
      const line = span / 200;
      const id = fresh();
      const map = r.shape.length === 3 ? r.shape[1] : 1;
      const box = { x: seen.left, y: seen.top, width: seen.size, height: seen.size };
      const centre = [seen.left + seen.size / 2, seen.top + seen.size / 2];
      picture.replaceChildren(s("svg", {
        viewBox: `${first - pad} ${first - pad} ${span + 2 * pad} ${span + 2 * pad}`, role: "img",
        "aria-label": `The input picture with the receptive field of ${r.name} drawn as a square of ${seen.size} pixels, from `
          + `column ${pixels(seen.left)} and row ${pixels(seen.top)}.`,
        onclick: (event) => pick(event, r, map),
      },
      s("defs", {},
        s("pattern", { id: `${id}-h`, width: line * 6, height: line * 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
          s("rect", { width: line, height: line * 6, class: "ex-hatch" })),
        s("mask", { id: `${id}-m` },
          s("rect", { x: first - pad, y: first - pad, width: span + 2 * pad, height: span + 2 * pad, fill: "#777" }),
          s("rect", { ...box, fill: "#fff" }))),
      s("rect", { x: first - pad, y: first - pad, width: span + 2 * pad, height: span + 2 * pad, fill: `url(#${id}-h)` }),
      s("rect", { x: 0, y: 0, width: state.side, height: state.side, fill: "#000" }),
      s("image", { href: `${HERE}photo.jpg`, x: 0, y: 0, width: state.side, height: state.side, mask: `url(#${id}-m)`,
        preserveAspectRatio: "none" }),
      map > 1 && map <= 28 ? centres(r, map, line) : null,
      s("rect", { ...box, class: "ex-field-back", "stroke-width": 3.2 * line }),
      s("rect", { ...box, class: "ex-field", "stroke-width": 1.6 * line }),
      s("circle", { cx: centre[0], cy: centre[1], r: 1.6 * line, class: "ex-centre", "stroke-width": line * 0.6 })),
      h("p", { class: "ex-note" },
        `Bright: what the unit sees. Hatched: outside the ${state.side} ${times} ${state.side} picture, where it sees only zero padding. `
        + (map > 28 ? "Choose a unit with the sliders, or click." : map > 1 ? "Dots: centres of the layer's units; click one, or use the sliders."
          : "The layer sees the whole map below it.")
        + (map > 1 ? " Rows and columns count from 0." : "")));
    }

    const centres = (r, map, line) => {
      const at = (k) => r.field.start + k * r.field.jump;
      let d = "";
      for (let i = 0; i < map; i++) for (let j = 0; j < map; j++) d += `M${at(j)} ${at(i)}h0`;
      return s("path", { d, class: "ex-dots", "stroke-width": Math.min(line * 1.4, r.field.jump / 2) });
    };

    function pick(event, r, map) {
      if (map === 1) return;
      const svg = picture.querySelector("svg");
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const index = (x) => Math.max(0, Math.min(map - 1, Math.round((x - r.field.start) / r.field.jump)));
      state.unit = [index(point.y), index(point.x)];
      sliders.forEach((input, axis) => { input.value = state.unit[axis]; });
      renderField();
    }

    function renderChart() {
      const width = Math.max(280, chart.clientWidth || root.clientWidth || 640);
      const rows = state.rows;
      const step = width / rows.length;
      const bar = Math.max(2, step * 0.72);
      const heights = [84, 46, 46, 46];
      const tops = [22, 136, 212, 288];
      const most = (key) => Math.max(...rows.map((r) => r[key]), 1);
      const share = (r, key) => `${fixed((100 * r[key]) / Math.max(1, total(rows, key)), 1)}%`;
      const svg = s("svg", { width, height: 340, role: "img",
        "aria-label": `${state.shown} as a strip of boxes from the input to the classes, with each layer's multiply-adds, parameters `
          + `and memory as bars. Largest: ${["macs", "params", "bytes"].map((key) => {
            const top = rows.reduce((a, b) => (b[key] > a[key] ? b : a));
            return `${{ macs: "multiply-adds", params: "parameters", bytes: "memory" }[key]} ${top.name}, ${share(top, key)}`;
          }).join("; ")}.` });
      const deepest = Math.max(...rows.filter((r) => r.shape.length === 3).map((r) => r.shape[1]));
      const r0 = row();
      const at = rows.indexOf(r0);
      svg.append(s("rect", { x: at * step, y: 16, width: step, height: 322, class: "ex-here" }));
      const heads = [
        [`Side of the map (${r0.name}: ${r0.shape.join(` ${times} `)})`, 12],
        [`Multiply-adds (${r0.name}: ${short(r0.macs)}, ${share(r0, "macs")})`, 130],
        [`Parameters (${r0.name}: ${short(r0.params)}, ${share(r0, "params")})`, 206],
        [`Output in memory (${r0.name}: ${fixed(r0.bytes / 1e6, 2)} MB, ${share(r0, "bytes")})`, 282],
      ];
      heads.forEach(([text, y]) => svg.append(label(0, y, text, { class: "ex-head" })));
      rows.forEach((r, index) => {
        const x = index * step + (step - bar) / 2;
        const mapHeight = r.shape.length === 3 ? Math.max(2, (heights[0] * r.shape[1]) / deepest) : 2;
        const values = [mapHeight, ...["macs", "params", "bytes"].map((key, k) => (r[key] / most(key)) * heights[k + 1])];
        values.forEach((value, k) => svg.append(s("rect", { x, width: bar, y: tops[k] + heights[k] - value, height: value,
          class: `ex-bar ex-${r.kind}` })));
        svg.append(s("rect", { x: index * step, y: 0, width: step, height: 340, class: "ex-hit",
          onclick: () => { which.value = r.name; state.layer = r.name; state.unit = null; render(); } },
        s("title", {}, `${r.name}: ${r.shape.join(` ${times} `)}, ${count(r.params)} parameters, ${count(r.macs)} multiply-adds`)));
      });
      const kinds = [...new Set(rows.map((r) => r.kind))];
      const tallest = `Full height: ${deepest} pixels, ${short(most("macs"))} multiply-adds, ${short(most("params"))} parameters, `
        + `${fixed(most("bytes") / 1e6, 2)} MB. Choose a layer by its bars or in the list above.`;
      chart.replaceChildren(svg, h("ul", { class: "ex-legend" }, kinds.map((kind) =>
        h("li", {}, h("span", { class: `ex-swatch ex-${kind}`, "aria-hidden": "true" }), KINDS[kind]))), h("p", { class: "ex-note" }, tallest));
      fitText(svg);
    }

    function renderTable() {
      const head = ["layer", "kind", "output", "parameters", "million MACs", "MB", "receptive field"];
      const line = (r) => h("tr", { "data-layer": r.name },
        h("th", { scope: "row" }, r.name), h("td", {}, r.kind), h("td", {}, r.shape.join(" x ")),
        ...[count(r.params), fixed(r.macs / 1e6, 1), fixed(r.bytes / 1e6, 2), count(r.field.size)].map((t) => h("td", {}, t)));
      table.setAttribute("aria-label", `Layers of ${state.shown}`);
      table.replaceChildren(h("table", {},
        h("caption", {}, `${state.shown}, input 3 ${times} ${state.side} ${times} ${state.side}, one image, float32`),
        h("thead", {}, h("tr", {}, head.map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, state.rows.map(line)),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "total"), h("td", {}), h("td", {}),
          h("td", {}, count(total(state.rows, "params"))), h("td", {}, fixed(total(state.rows, "macs") / 1e6, 1)),
          h("td", {}, fixed(total(state.rows, "bytes") / 1e6, 2)), h("td", {})))));
    }

    update();
    onWidth(chart, renderChart);
  }

  // ---- a stack of kernels against a single one -------------------------------------------------------------------------------

  function stackView(root) {
    const state = { layers: (root.dataset.layers ?? "3,3,3").split(",").filter(Boolean).map((x) => (x.trim() === "pool" ? "pool" : Number(x))) };
    const named = (layer) => (layer === "pool" ? `max-pool 2${times}2` : `conv ${layer}${times}${layer}`);
    const number = (value, what, max) => h("input", { type: "number", min: 1, max, step: 1, value, inputmode: "numeric",
      "data-what": what, oninput: () => update() });
    const channels = number(root.dataset.channels ?? 64, "Channels", LIMIT.channels);
    const inputs = number("", "Input channels", LIMIT.channels);
    inputs.placeholder = "as many as out";
    const side = number(root.dataset.side ?? 56, "The map's side", LIMIT.side);
    const biases = h("input", { type: "checkbox", onchange: () => update() });
    const error = h("p", { class: "ex-error", role: "alert", id: fresh() });
    const summary = h("p", { class: "ex-summary", role: "status", "aria-live": "polite" });
    const list = h("ol", { class: "ex-list" });
    const facts = h("div", { class: "ex-scroll", role: "region", tabindex: 0, "aria-label": "The stack and the single kernel" });
    const drawing = h("div", { class: "ex-chart" });
    const curve = h("div", { class: "ex-chart" });
    const checkBox = control("Count biases", biases);
    checkBox.classList.add("ex-check");
    const button = (text, name, onclick, attributes = {}) => h("button", { type: "button", "aria-label": name, onclick, ...attributes }, text);
    const adders = h("div", { class: "ex-buttons", role: "group", "aria-label": "Add a layer at the end" },
      [3, 5, 7, 1, "pool"].map((layer) => h("button", { type: "button", "data-add": layer, onclick: () => change([...state.layers, layer]) },
        `Add ${layer === "pool" ? "pool" : `${layer}${times}${layer}`}`)),
      h("button", { type: "button", onclick: () => change([3, 3, 3]) }, `Three 3${times}3 again`));

    root.replaceChildren(
      h("div", { class: "ex-controls" }, control("Channels out (C)", channels), control("Channels in", inputs),
        control("Map side, pixels", side), checkBox),
      adders, error,
      summary,
      h("div", { class: "ex-columns" }, h("div", {}, list, drawing), h("div", {}, facts)),
      curve);

    let result = null;

    /** Take a new list of layers where it is possible; keep the old one and say why where it is not. */
    function change(layers, focus) {
      const old = state.layers;
      state.layers = layers;
      if (!update()) {
        state.layers = old;
        return;
      }
      if (focus) list.querySelector(focus)?.focus();
    }

    function update() {
      const done = guarded(error, [channels, inputs, side], () => {
        result = stack(state.layers, { channels: channels.value, inputs: inputs.value === "" ? channels.value : inputs.value,
          side: side.value, biases: biases.checked });
        state.C = Number(channels.value);
        state.cin = inputs.value === "" ? state.C : Number(inputs.value);
        state.map = Number(side.value);
      });
      if (done) render();
      return done;
    }

    function render() {
      const last = state.layers.length - 1;
      const swap = (i, j) => {
        const layers = [...state.layers];
        [layers[i], layers[j]] = [layers[j], layers[i]];
        change(layers, `li:nth-child(${j + 1}) button[data-go="${j < i ? "up" : "down"}"]:not(:disabled), li:nth-child(${j + 1}) button:not(:disabled)`);
      };
      list.replaceChildren(...result.rows.map((r, i) => {
        const name = `layer ${i + 1}, ${named(r.layer)}`;
        return h("li", {}, h("div", {},
          h("span", {}, named(r.layer), h("small", {}, ` sees ${r.size}${times}${r.size}, map ${r.side}${times}${r.side}`)),
          h("span", { class: "ex-tools" },
            button("\u2191", `Move up ${name}`, () => swap(i, i - 1), { disabled: i === 0, "data-go": "up" }),
            button("\u2193", `Move down ${name}`, () => swap(i, i + 1), { disabled: i === last, "data-go": "down" }),
            button("\u00d7", `Remove ${name}`, () => change(state.layers.filter((_, k) => k !== i), `li:nth-child(${Math.max(1, Math.min(i + 1, last))}) button:last-child`),
              { "data-go": "out" }))));
      }));
      if (!state.layers.length) list.replaceChildren(h("li", { class: "ex-empty" }, "No layer yet: add one."));
      renderFacts();
      renderDrawing();
      renderCurve();
    }

    const formula = (factor, extra = "") => (state.cin === state.C ? `${count(factor)} C\u00b2` : `${count(factor)} C_in C${extra}`);

    function renderFacts() {
      const { single } = result;
      const kernels = result.rows.filter((r) => r.layer !== "pool").map((r) => r.kernel ** 2);
      const sum = kernels.reduce((a, b) => a + b, 0);
      const ours = state.cin === state.C ? `${count(sum)} C\u00b2`
        : kernels.length ? `${kernels[0]} C_in C${sum > kernels[0] ? ` + ${sum - kernels[0]} C\u00b2` : ""}` : "0";
      const bias = (n) => (biases.checked && n ? ` + ${n === 1 ? "" : n} C` : "");
      const lines = [
        ["Kernels", result.rows.map((r) => named(r.layer)).join(", ") || "none", `conv ${single.kernel}${times}${single.kernel}, stride ${single.stride}`],
        ["Receptive field", `${result.size}${times}${result.size}`, `${single.kernel}${times}${single.kernel}`],
        ["Non-linearities (ReLU)", String(result.convs), "1"],
        ["Weights, formula", ours + bias(result.convs), formula(single.kernel ** 2) + bias(1)],
        [biases.checked ? "Weights and biases" : "Weights", count(result.weights), count(single.weights)],
        ["Multiply-adds", count(result.macs), count(single.macs)],
        ["Output map", `${result.side}${times}${result.side}`, `${result.side}${times}${result.side}`],
      ];
      facts.replaceChildren(h("table", {},
        h("caption", {}, `C = ${count(state.C)}` + (state.cin === state.C ? "" : `, C_in = ${count(state.cin)}`)),
        h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, "The stack"), h("th", { scope: "col" }, "One convolution"))),
        h("tbody", {}, lines.map(([name, a, b]) => h("tr", {}, h("th", { scope: "row" }, name),
          h("td", { "data-stack": name }, a), h("td", { "data-single": name }, b))))));
      summary.textContent = sentence();
    }

    function sentence() {
      const { weights: a, single: { weights: b, kernel } } = result;
      const start = `The stack sees ${result.size} ${times} ${result.size} pixels of its input. `;
      if (!result.convs) return `${start}It holds no convolution, so it has no weights to compare.`;
      if (a === b) return `${start}It has as many weights as one ${kernel} ${times} ${kernel} convolution.`;
      const [few, many] = [Math.min(a, b), Math.max(a, b)];
      const names = a < b ? ["single kernel", "stack"] : ["stack", "single kernel"];
      return `${start}The ${names[0]} has ${fixed((100 * (many - few)) / few, 1)}% more weights; `
        + `put the other way, the ${names[1]} has ${fixed((100 * (many - few)) / many, 1)}% fewer.`;
    }

    /** One output unit on top and, below each layer, the units it is made from, along one axis. */
    function renderDrawing() {
      const width = Math.max(280, drawing.clientWidth || root.clientWidth || 640);
      const seen = [1];
      [...result.rows].reverse().forEach((r) => seen.push((seen[seen.length - 1] - 1) * (r.layer === "pool" ? 2 : 1) + r.kernel));
      const left = 96;
      const most = Math.max(7, seen[seen.length - 1]);
      const jumps = [...result.rows].reverse().map((r) => r.jump).concat(1);
      const cell = Math.min(16, (width - left - 8) / most);
      const gap = 40;
      const svg = s("svg", { width, height: seen.length * gap + 8, role: "img",
        "aria-label": `Along one axis, one unit of the output is made from ${seen.slice(1).join(", then ")} units, down to the input.` });
      const centre = left + (width - left) / 2;
      const step = (k) => cell * jumps[k];
      seen.forEach((units, k) => {
        const y = 24 + k * gap;
        const x0 = centre - (units * step(k)) / 2;
        if (k + 1 < seen.length) {
          const below = (seen[k + 1] * step(k + 1)) / 2;
          svg.append(s("polygon", { class: "ex-cone",
            points: `${x0},${y + 14} ${x0 + units * step(k)},${y + 14} ${centre + below},${y + gap} ${centre - below},${y + gap}` }));
        }
        for (let u = 0; u < units; u++) {
          svg.append(s("rect", { x: x0 + u * step(k) + 0.5, y, width: Math.max(1, step(k) - 1), height: 14,
            class: `ex-cell${k === seen.length - 1 ? " ex-input" : ""}` }));
        }
        const text = k === seen.length - 1 ? "input" : named(result.rows[result.rows.length - 1 - k].layer);
        svg.append(label(0, y + 11, `${text}: ${units}`, { class: "ex-head" }));
      });
      drawing.replaceChildren(h("p", { class: "ex-title" }, "Units along one axis that feed one output unit"), svg);
      fitText(svg);
    }

    /** Weights against the receptive field: a single kernel grows with its square, a stack of 3x3 in a straight line. */
    function renderCurve() {
      const width = Math.max(280, curve.clientWidth || root.clientWidth || 640);
      const [w, hgt, x0, y0] = [width - 84, 190, 68, 214];
      const far = Math.max(11, result.size + 2);
      const one = (r) => r * r * state.cin * state.C;
      const threes = (r) => (r < 3 ? 0 : 9 * state.cin * state.C + 9 * state.C ** 2 * ((r - 3) / 2));
      const top = Math.max(one(far), threes(far), result.weights) * 1.04;
      const X = (r) => x0 + ((r - 1) / (far - 1)) * w;
      const Y = (n) => y0 - (n / top) * hgt;
      const path = (f, from, step) => {
        let d = "";
        for (let r = from; r <= far + 1e-9; r += step) d += `${d ? "L" : "M"}${X(r).toFixed(1)} ${Y(f(r)).toFixed(1)}`;
        return d;
      };
      const svg = s("svg", { width, height: 262, role: "img",
        "aria-label": `Weights against the receptive field for C = ${state.C}: a single kernel's grow with the square of the field, those `
          + `of 3 by 3 layers in a straight line. The stack stands at field ${result.size} with ${count(result.weights)}.` },
      s("path", { d: `M${x0} ${y0 - hgt}V${y0}H${x0 + w}`, class: "ex-axis" }),
      label(0, y0 - hgt - 12, "weights", { class: "ex-head" }),
      [0, 0.5, 1].map((t) => label(x0 - 6, Y(top * t) + 4, short(top * t), { class: "ex-head", "text-anchor": "end" })),
      s("path", { d: path(one, 1, 0.25), class: "ex-line-one" }),
      s("path", { d: path(threes, 3, 2 * ((far - 3) / 2) || 1), class: "ex-line-three" }));
      const every = Math.max(2, 2 * Math.ceil(far / 24));
      for (let r = 1; r <= far; r += every) svg.append(label(X(r), y0 + 16, String(r), { class: "ex-head", "text-anchor": "middle" }));
      svg.append(label(x0 + w, y0 + 34, "receptive field, pixels a side", { class: "ex-head", "text-anchor": "end" }));
      svg.append(label(x0 + 10, y0 - hgt + 14, "dashed: one kernel", { class: "ex-head" }),
        label(x0 + 10, y0 - hgt + 30, `solid: 3${times}3 layers`, { class: "ex-head" }),
        label(x0 + 10, y0 - hgt + 46, "dot: your stack", { class: "ex-head" }));
      svg.append(s("circle", { cx: X(result.size), cy: Y(result.weights), r: 6, class: "ex-you" }),
        s("path", { d: `M${X(result.size)} ${Y(result.single.weights)}V${Y(result.weights)}`, class: "ex-gap" }));
      curve.replaceChildren(h("p", { class: "ex-title" }, `Weights against the receptive field, C = ${count(state.C)}`), svg);
      fitText(svg);
    }

    update();
    onWidth(drawing, () => { renderDrawing(); renderCurve(); });
  }

  // ---- start -----------------------------------------------------------------------------------------------------------------

  /** From now on each <div class="explorer" data-view="name"> is what `build` makes of it. */
  function view(name, build) {
    const start = () => document.querySelectorAll(`div.explorer[data-view="${name}"]:not([data-ready])`).forEach((root) => {
      root.dataset.ready = "true";
      build(root);
    });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }

  Object.assign(window.vggExplorer, {
    view,
    kit: { HERE, h, s, label, fitText, count, fixed, short, times, fresh, control, guarded, onWidth, whole },
  });
  view("network", networkView);
  view("stack", stackView);
})();
