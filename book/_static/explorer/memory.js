/* The memory of a training step against the batch: what is fixed, what grows with each image, and how many images a card takes.
 *
 * Every <div class="explorer" data-view="memory" ...> becomes one. Arithmetic first (vggExplorer.memory), then the drawing.
 */
(() => {
  "use strict";
  const { trace, total, whole, view, kit } = window.vggExplorer;
  const { h, s, label, fitText, count, fixed, fresh, control, guarded, onWidth } = kit;

  // ---- arithmetic ------------------------------------------------------------------------------------------------------------

  const MOST = 1024; // images
  const PAPER = 256; // the paper's batch
  const GIB = 2 ** 30;
  const CARDS = [[6, ", the paper's Titan Black"], [16, ""], [80, ""]]; // sold as so many GB, which are 2^30 bytes each
  const KEPT = { torch: "what PyTorch keeps", pairs: "outputs and their gradients" };

  const values = (row) => row.shape.reduce((a, b) => a * b, 1);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

  /** Bytes of a training step, dropout aside. Fixed: weights, gradients and momentum in 32 bits, with mixed precision a 16-bit copy
   *  of the weights. An image: as PyTorch does, each layer's input and, in 64 bits, each pooling's winners; or ("pairs") each
   *  output and a gradient for it. */
  function memory(name, { side = 224, mixed = false, kept = "torch" } = {}) {
    const rows = trace(name, side);
    const parameters = total(rows, "params");
    const bytes = mixed ? 2 : 4;
    const sizes = rows.map(values);
    const step = { weights: 4 * parameters, copy: mixed ? 2 * parameters : 0, gradients: 4 * parameters, momentum: 4 * parameters };
    const image = kept === "pairs"
      ? { maps: bytes * sum(sizes), back: bytes * sum(sizes), winners: 0 }
      : { maps: bytes * (3 * side ** 2 + sum(sizes.slice(0, -1))), back: 0,
        winners: 8 * sum(sizes.filter((_, k) => rows[k].kind === "pool")) };
    return { ...step, ...image, step: sum(Object.values(step)), image: sum(Object.values(image)) };
  }

  const need = (found, batch) => found.step + batch * found.image;

  /** The largest batch that a card of so many bytes takes; 0 where not one image fits. */
  const fits = (found, bytes) => Math.max(0, Math.floor((bytes - found.step) / found.image));

  window.vggExplorer.memory = { memory, need, fits, CARDS, GIB };

  /** Round numbers from 0 to `most`, three to six of them. */
  function ticks(most) {
    const step = [1, 2, 5, 10, 20, 50, 100, 200].find((each) => most / each < 6);
    return Array.from({ length: Math.floor(most / step) + 1 }, (_, k) => k * step);
  }

  // ---- the drawing -----------------------------------------------------------------------------------------------------------

  /** From the bottom of the drawing up; `each`: it grows with the batch. */
  const PARTS = [
    { key: "weights", name: "weights" }, { key: "copy", name: "16-bit copy of the weights" }, { key: "gradients", name: "gradients of the weights" },
    { key: "momentum", name: "momentum" }, { key: "maps", name: "inputs of the layers", each: true },
    { key: "back", name: "gradients of the outputs", each: true }, { key: "winners", name: "winners of the poolings", each: true },
  ];

  function memoryView(root) {
    const { config = "D", batch = "64" } = root.dataset;
    const state = { name: config, batch: 1, found: null };
    const nets = window.vggConfigs.filter((each) => ["A", "B", "C", "D", "E", "B-5x5"].includes(each.name)); // LRN keeps more: not counted
    const choose = h("select", { onchange: () => update() },
      nets.map((each) => h("option", { value: each.name, selected: each.name === config }, `${each.name}, ${each.depth} layers`)));
    const slider = h("input", { type: "range", min: 1, max: MOST, step: 1, value: batch, oninput: () => { number.value = slider.value; update(); } });
    const number = h("input", { type: "number", min: 1, max: MOST, step: 1, value: batch, inputmode: "numeric", "data-what": "The batch",
      oninput: () => update() });
    const kept = h("select", { "data-long": "", onchange: () => update() },
      Object.entries(KEPT).map(([value, name]) => h("option", { value }, name)));
    const mixed = h("input", { type: "checkbox", onchange: () => update() });
    const mixedBox = control("Mixed precision (16 bits)", mixed);
    mixedBox.classList.add("ex-check");
    const error = h("p", { class: "ex-error", role: "alert", id: fresh() });
    const summary = h("p", { class: "ex-summary", role: "status", "aria-live": "polite" });
    const chart = h("div", { class: "ex-chart" });
    const parts = h("div", { class: "ex-scroll", role: "region", tabindex: 0, "aria-label": "Memory, part by part" });
    const cards = h("div", { class: "ex-scroll", role: "region", tabindex: 0, "aria-label": "Images that fit into a card" });

    root.replaceChildren(
      h("div", { class: "ex-controls ex-short" }, control("Configuration", choose), control("Images", number, error), control("Images on the card", slider),
        control("Kept for the backward pass", kept), mixedBox),
      summary, chart,
      h("div", { class: "ex-columns" }, h("div", {}, parts), h("div", {}, cards)),
      h("p", { class: "ex-note" }, "Crop 224, 1000 classes, no dropout. GB are 10\u2079 bytes everywhere here; a card is sold in units of 2\u00b3\u2070 bytes. "
        + "Workspaces and the driver take some hundred MB more."));

    function update() {
      guarded(error, [number], () => {
        state.batch = whole(number.value, "The batch", 1, MOST);
        state.name = choose.value;
        state.found = memory(state.name, { mixed: mixed.checked, kept: kept.value });
        slider.value = state.batch;
        slider.setAttribute("aria-valuetext", `${state.batch} images`);
        renderTables();
        renderChart();
      });
    }

    const gb = (bytes) => fixed(bytes / 1e9, bytes < 1e9 ? 2 : 1);
    const sold = (size) => `${gb(size * GIB)} GB (sold as ${size})`;
    const used = () => PARTS.filter(({ key }) => state.found[key]);
    const nameOf = ({ key, name }) => (key === "maps" && state.found.back ? "outputs of the layers" : name);
    const images = (n) => `${count(n)} ${n === 1 ? "image" : "images"}`;

    function renderTables() {
      const { found, batch, name } = state;
      const all = need(found, batch);
      const paper = fits(found, CARDS[0][0] * GIB);
      summary.textContent = `A step of ${name} with ${images(batch)} needs ${gb(all)} GB: ${gb(found.step)} GB whatever the batch, and `
        + `${fixed(found.image / 1e6, 1)} MB an image. The paper's card holds ${sold(CARDS[0][0])}: it takes ${images(paper)}.`;
      parts.replaceChildren(h("table", {},
        h("caption", {}, `${name}, ${images(batch)}`),
        h("thead", {}, h("tr", {}, ["part", "MB an image", "GB"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, used().reverse().map((part) => h("tr", {}, h("th", { scope: "row" }, swatch(part.key), nameOf(part)),
          h("td", {}, part.each ? fixed(found[part.key] / 1e6, 1) : "\u2013"),
          h("td", { "data-part": part.key }, gb(found[part.key] * (part.each ? batch : 1)))))),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "all"), h("td", {}, fixed(found.image / 1e6, 1)), h("td", { "data-part": "all" }, gb(all))))));
      cards.replaceChildren(h("table", {},
        h("caption", {}, `How many images fit, and the paper's batch of ${PAPER}`),
        h("thead", {}, h("tr", {}, ["card", "images", `batch of ${PAPER}`].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, CARDS.map(([size, card]) => {
          const most = fits(found, size * GIB);
          const pieces = Math.ceil(PAPER / most);
          return h("tr", {}, h("th", { scope: "row" }, sold(size) + card), h("td", { "data-card": size }, count(most)),
            h("td", {}, most === 0 ? "does not fit" : pieces === 1 ? "in one" : `in ${pieces} pieces`));
        }))));
    }

    const swatch = (key) => h("span", { class: `ex-swatch ex-m-${key}`, "aria-hidden": "true" });

    /** Areas one on the other against the batch; the cards as lines across, the reader's batch as a line up. */
    function renderChart() {
      const { found, batch, name } = state;
      const width = Math.max(260, chart.clientWidth || root.clientWidth || 640);
      const [w, tall, x0, y0] = [width - 60, 220, 44, 238];
      const far = [128, 256, 512, MOST].find((n) => n >= batch);
      const most = need(found, far) * 1.05;
      const X = (n) => x0 + (n / far) * w;
      const Y = (bytes) => y0 - (bytes / most) * tall;
      const lines = CARDS.filter(([size]) => size * GIB < most);
      const svg = s("svg", { width, height: 286, role: "img",
        "aria-label": `Memory of a training step of ${name} against the images on the card: a straight line from ${gb(found.step)} GB up to `
          + `${gb(need(found, far))} GB at ${far} images, and ${gb(need(found, batch))} GB at ${batch}. ${CARDS.map(([size]) =>
            `A card of ${sold(size)} takes ${count(fits(found, size * GIB))}`).join(". ")}.` });
      let below = [0, 0];
      for (const { key, each } of used()) {
        const above = [below[0] + (each ? 0 : found[key]), below[1] + found[key] * (each ? far : 1)];
        svg.append(s("path", { class: `ex-m-${key}`,
          d: `M${X(0)} ${Y(below[0])}L${X(far)} ${Y(below[1])}V${Y(above[1])}L${X(0)} ${Y(above[0])}Z` }));
        below = above;
      }
      svg.append(s("path", { class: "ex-axis", d: `M${x0} ${y0 - tall}V${y0}H${x0 + w}` }),
        ...[0, 0.25, 0.5, 0.75, 1].map((part) => label(X(part * far), y0 + 17, count(part * far), { "text-anchor": "middle" })),
        ...ticks(most / 1e9).map((gigabytes) => label(x0 - 6, Y(gigabytes * 1e9) + 4, count(gigabytes), { "text-anchor": "end" })),
        label(0, y0 - tall - 6, "GB"), label(x0 + w, y0 + 36, "images on the card", { "text-anchor": "end" }));
      for (const [size] of lines) {
        const y = Y(size * GIB);
        svg.append(s("path", { class: "ex-card", d: `M${x0} ${y}H${x0 + w}` }),
          label(x0 + 6, y - 5, `${sold(size)}: ${images(fits(found, size * GIB))}`, { class: "ex-halo" }));
      }
      svg.append(s("path", { class: "ex-batch", d: `M${X(batch)} ${y0}V${y0 - tall}` }),
        s("circle", { class: "ex-you", cx: X(batch), cy: Y(need(found, batch)), r: 6 }));
      chart.replaceChildren(h("p", { class: "ex-title" }, `Memory of a training step of ${name}; the dot: your batch`), svg);
      fitText(svg);
    }

    update();
    onWidth(chart, renderChart);
  }

  view("memory", memoryView);
})();
