/* The score map of a test image of any size: where its cells lie, and what dense evaluation costs beside fifty crops.
 *
 * Every <div class="explorer" data-view="testing" ...> becomes one. Arithmetic first (vggExplorer.testing), then the drawing.
 */
(() => {
  "use strict";
  const { trace, total, whole, view, kit } = window.vggExplorer;
  const { HERE, h, s, count, fixed, times, fresh, control, guarded, onWidth } = kit;

  // ---- arithmetic ------------------------------------------------------------------------------------------------------------

  const CROP = 224;
  const LARGEST = 640;
  const SCALES = [256, 384, 512]; // the paper's, after training with scale jitter
  const GRID = 5;
  const NETS = ["A", "A-LRN", "B", "C", "D", "E", "B-5x5"];

  const maps = (rows) => rows.filter((row) => row.kind !== "fc");
  const heads = (rows) => rows.filter((row) => row.kind === "fc");
  const lastMap = (rows) => maps(rows).at(-1).shape;

  /** A half is rounded to the even neighbour, as Python does. */
  function rounded(x) {
    const low = Math.floor(x);
    if (x - low !== 0.5) return Math.round(x);
    return low % 2 ? low + 1 : low;
  }

  /** First pixels of the crops along one side, evenly from border to border. */
  const corners = (q, crop = CROP, grid = GRID) =>
    Array.from({ length: grid }, (_, i) => rounded(((q - crop) * i) / (grid - 1)));

  /** The poolings that leave out the last rows and columns of the map below: name, and how many. */
  function dropped(name, q) {
    const { layers } = window.vggConfigs.find((each) => each.name === name);
    const sides = [q, ...maps(trace(name, q)).map((row) => row.shape[1])];
    const left = ({ kernel, stride }, i) => sides[i] - ((sides[i + 1] - 1) * stride + kernel);
    return layers.map((layer, i) => ({ name: layer.name, kind: layer.kind, rows: left(layer, i) }))
      .filter(({ kind, rows }) => kind === "pool" && rows > 0);
  }

  /** A net trained on crops of `crop` pixels, on a square picture of q: its last map, its score map, and multiply-adds of one
   *  dense evaluation and of one crop. */
  function scoreMap(name, q, crop = CROP) {
    const [small, large] = [trace(name, crop), trace(name, q)];
    const cells = lastMap(large)[1] - lastMap(small)[1] + 1;
    const { size, jump, start } = heads(small)[0].field;
    return {
      map: lastMap(large), cells, spacing: jump, first: start, field: size,
      dense: total(maps(large), "macs") + cells ** 2 * total(heads(small), "macs"),
      crop: total(small, "macs"),
    };
  }

  /** Multiply-adds of a whole test, mirror images included: at q densely and with 50 crops, at the paper's sizes and with 150. */
  function costs(name, q) {
    const { crop } = scoreMap(name, CROP);
    const dense = (sides) => 2 * sides.reduce((sum, side) => sum + scoreMap(name, side).dense, 0);
    const crops = (sides) => 2 * GRID ** 2 * sides.length * crop;
    return [
      { way: "dense", sides: [q], macs: dense([q]) }, { way: "crops", sides: [q], macs: crops([q]) },
      { way: "dense", sides: SCALES, macs: dense(SCALES) }, { way: "crops", sides: SCALES, macs: crops(SCALES) },
    ];
  }

  window.vggExplorer.testing = { scoreMap, costs, corners, dropped, NETS, CROP, LARGEST };

  // ---- the drawing -----------------------------------------------------------------------------------------------------------

  function testingView(root) {
    const { config = "D", size = "384" } = root.dataset;
    const state = { name: config, q: CROP, cell: [0, 0], found: null };
    const nets = window.vggConfigs.filter((each) => NETS.includes(each.name));
    const choose = h("select", { onchange: () => update() },
      nets.map((each) => h("option", { value: each.name, selected: each.name === config }, `${each.name}, ${each.depth} layers`)));
    const slider = h("input", { type: "range", min: CROP, max: LARGEST, step: 1, value: size, oninput: () => { number.value = slider.value; update(); } });
    const number = h("input", { type: "number", min: CROP, max: LARGEST, step: 1, value: size, inputmode: "numeric", "data-what": "Q",
      oninput: () => update() });
    const error = h("p", { class: "ex-error", role: "alert", id: fresh() });
    const summary = h("p", { class: "ex-summary", role: "status", "aria-live": "polite" });
    const facts = h("dl", { class: "ex-facts" });
    const hint = h("p", { class: "ex-note", id: fresh() },
      "Squares: the cells of the score map, each in the middle of the crop that it answers for. Filled: the chosen cell; the large "
      + "frame is its crop. Crosses: middles of the 25 crops. Point at a cell, tap it, or use the arrow keys. Rows and columns count from 0.");
    const place = h("p", { class: "ex-note", role: "status", "aria-live": "polite" });
    const svg = s("svg", { class: "ex-cells", tabindex: 0, role: "application", "aria-describedby": hint.id,
      onpointermove: pointed, onpointerdown: pointed, onkeydown: pressed });
    const cost = h("div", { class: "ex-scroll", role: "region", tabindex: 0, "aria-label": "Multiply-adds of dense evaluation and of crops" });

    root.replaceChildren(
      h("div", { class: "ex-controls ex-short" }, control("Configuration", choose), control("Q, pixels", number, error), control("Q, side of the test image", slider)),
      summary,
      h("div", { class: "ex-columns" }, h("div", { class: "ex-picture" }, hint, svg, place), h("div", {}, facts, cost)));

    function update() {
      guarded(error, [number], () => {
        const q = whole(number.value, "Q", CROP, LARGEST, `the net was trained on crops of ${CROP} pixels; at least ${CROP} are needed`);
        Object.assign(state, { q, name: choose.value, found: scoreMap(choose.value, q) });
        state.cell = state.cell.map((k) => Math.min(k, state.found.cells - 1));
        slider.value = q;
        slider.setAttribute("aria-valuetext", `${q} pixels`);
        renderFacts();
        draw();
      });
    }

    const squared = (n) => `${n} ${times} ${n}`;
    const billions = (n) => fixed(n / 1e9, 1);

    function renderFacts() {
      const { q, name, found } = state;
      const lost = dropped(name, q);
      const [here, crops, three, many] = costs(name, q);
      const ratio = (a, b) => `${fixed(a.macs / b.macs, 1)} times`;
      summary.textContent = `At Q = ${q} the score map of ${name} has ${squared(found.cells)} ${found.cells === 1 ? "cell" : "cells"}`
        + (found.cells > 1 ? `, ${found.spacing} pixels apart` : "") + `. Fifty crops cost ${ratio(crops, here)} as much as dense evaluation.`;
      const lines = [
        ["Last map", found.map.join(` ${times} `)],
        ["Score map", `${squared(found.cells)}, ${count(found.cells ** 2)} ${found.cells === 1 ? "answer" : "answers"} a picture`],
        ["Cells apart on the picture", `${found.spacing} pixels`],
        ["Crops apart", `${fixed((q - CROP) / (GRID - 1), 1)} pixels`],
        ["Poolings that leave out a row", lost.length ? lost.map((each) => each.name).join(", ") : "none"],
        ["Pixels beyond the last cell's crop", String(q - CROP - (found.cells - 1) * found.spacing)],
      ];
      facts.replaceChildren(...lines.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", { "data-fact": term }, value))));
      const rows = [
        [`dense, Q = ${q}`, here, `${fixed(here.macs / found.crop, 1)}`],
        [`50 crops, Q = ${q}`, crops, "50.0"],
        [`dense, Q = ${SCALES.join(", ")}`, three, fixed(three.macs / found.crop, 1)],
        ["150 crops, the same three Q", many, "150.0"],
      ];
      cost.replaceChildren(h("table", {},
        h("caption", {}, "With mirror images, for one picture"),
        h("thead", {}, h("tr", {}, ["test", "billion multiply-adds", "times one crop"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, rows.map(([text, { macs }, singles]) => h("tr", {}, h("th", { scope: "row" }, text),
          h("td", { "data-macs": macs }, billions(macs)), h("td", {}, singles))))));
    }

    function draw() {
      const { q, found, cell: [row, column] } = state;
      const line = q / 200;
      const at = (k) => found.first + k * found.spacing;
      const grid = Array.from({ length: found.cells ** 2 }, (_, i) => [Math.floor(i / found.cells), i % found.cells]);
      const places = corners(q).map((corner) => corner + CROP / 2);
      const arm = 2.5 * line;
      const crosses = places.flatMap((y) => places.map((x) => `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}`)).join("");
      const window_ = { x: at(column) - CROP / 2, y: at(row) - CROP / 2, width: CROP, height: CROP };
      const half = found.spacing / 2;
      svg.setAttribute("viewBox", `0 0 ${q} ${q}`);
      svg.setAttribute("aria-label", `A picture of ${squared(q)} pixels under a score map of ${squared(found.cells)} cells. `
        + `Chosen: row ${row}, column ${column}.`);
      svg.replaceChildren(
        s("image", { href: `${HERE}photo.jpg`, width: q, height: q, preserveAspectRatio: "none", class: "ex-under" }),
        ...grid.map(([i, j]) => s("rect", { x: at(j) - half + line / 2, y: at(i) - half + line / 2, width: 2 * half - line, height: 2 * half - line,
          class: `ex-score${i === row && j === column ? " ex-chosen" : ""}`, "stroke-width": 0.8 * line })),
        s("path", { d: crosses, class: "ex-cross-back", "stroke-width": 1.8 * line }),
        s("path", { d: crosses, class: "ex-cross", "stroke-width": 0.8 * line }),
        s("rect", { ...window_, class: "ex-field-back", "stroke-width": 2.6 * line }),
        s("rect", { ...window_, class: "ex-field", "stroke-width": 1.3 * line }));
      const [left, upper] = [window_.x, window_.y];
      place.textContent = `Cell in row ${row}, column ${column} answers for the crop of pixels ${left} to ${left + CROP - 1} across, ${upper} to ${upper + CROP - 1} `
        + `down. Where that crop would end in zero padding, the cell sees on into the picture: its field is ${squared(found.field)}.`;
    }

    function choose_(row, column) {
      const near = (k) => Math.max(0, Math.min(state.found.cells - 1, k));
      const [i, j] = [near(row), near(column)];
      if (i === state.cell[0] && j === state.cell[1]) return;
      state.cell = [i, j];
      draw();
    }

    function pointed(event) {
      const box = svg.getBoundingClientRect();
      const index = (offset, side) => Math.round(((offset / side) * state.q - state.found.first) / state.found.spacing);
      choose_(index(event.clientY - box.top, box.height), index(event.clientX - box.left, box.width));
    }

    function pressed(event) {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      choose_(state.cell[0] + step[0], state.cell[1] + step[1]);
    }

    update();
    onWidth(root, draw);
  }

  view("testing", testingView);
})();
