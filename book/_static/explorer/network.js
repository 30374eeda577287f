/* A network, layer by layer: the field of any unit on the picture, and every layer's map, work, parameters and memory.
 *
 * Every <div class="explorer" data-view="network" ...> becomes one.
 */
(() => {
  "use strict";
  const { trace, window: window_, total, LIMIT, view, kit } = window.vggExplorer;
  const { HERE, h, s, label, fitText, count, fixed, short, times, fresh, control, guarded, onWidth } = kit;

  const pixels = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(1)).replace("-", "\u2212");
  const KINDS = { conv: "convolution", bn: "batch normalisation", lrn: "local response normalisation",
    pool: "max-pooling", fc: "fully connected" };

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
        h("th", { scope: "row" }, r.name), h("td", {}, r.kind), h("td", {}, r.shape.join(` ${times} `)),
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

  view("network", networkView);
})();
