/* A stack of kernels against the single one with the same field: weights, work, non-linearities.
 *
 * Every <div class="explorer" data-view="stack" ...> becomes one.
 */
(() => {
  "use strict";
  const { stack, LIMIT, view, kit } = window.vggExplorer;
  const { h, s, label, fitText, count, fixed, short, times, fresh, control, guarded, onWidth } = kit;

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

  view("stack", stackView);
})();
