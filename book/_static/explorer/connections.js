/* The connections of a stack along one axis: rows of cells, one a layer, and the inputs of the unit that the reader points at.
 *
 * Every <div class="explorer" data-view="connections" ...> becomes one. Arithmetic first (vggExplorer.connections), then the drawing.
 */
(() => {
  "use strict";
  const { grow, view, kit } = window.vggExplorer;
  const { h, s, label, fitText, times, fresh, control, onWidth } = kit;

  // ---- arithmetic ------------------------------------------------------------------------------------------------------------

  const COLUMNS = 24; // of the picture: enough that a unit in the middle of every stack here sees no border
  const POOL = { name: "pooling", the: "the ", kernel: 2, stride: 2, pad: 0 };
  const ORDINALS = ["first", "second", "third"];
  const repeated = (kernel, n) => Array.from({ length: n }, (_, i) => ({
    name: `${n > 1 ? `${ORDINALS[i]} ` : ""}${kernel}${times}${kernel}`, the: "the ", kernel, stride: 1, pad: (kernel - 1) / 2,
  }));

  /** The first two blocks of a configuration, poolings included. */
  function blocks(name) {
    const { layers } = window.vggConfigs.find((config) => config.name === name);
    const end = layers.findIndex((layer) => layer.name === "pool2");
    return layers.slice(0, end + 1).map(({ kernel, stride, pad = 0, ...layer }) => ({ name: layer.name, the: "", kernel, stride, pad }));
  }

  const STACKS = {
    3: [`one 3${times}3`, () => repeated(3, 1)],
    "3,3": [`two 3${times}3`, () => repeated(3, 2)],
    "3,3,3": [`three 3${times}3`, () => repeated(3, 3)],
    5: [`one 5${times}5`, () => repeated(5, 1)],
    7: [`one 7${times}7`, () => repeated(7, 1)],
    A: ["blocks 1 and 2 of A", () => blocks("A")],
    D: ["blocks 1 and 2 of B to E", () => blocks("D")],
  };
  const ownPoolings = (choice) => choice === "A" || choice === "D";
  const POOLINGS = { none: "none", before: "before the stack", behind: "behind the stack" };
  const ORDER = ["3", "3,3", "3,3,3", "5", "7", "A", "D"]; // a number as a key would come first

  /** The layers of a choice; the blocks have their own poolings. */
  function layersOf(choice, pooling = "none") {
    const layers = STACKS[choice][1]();
    if (ownPoolings(choice) || pooling === "none") return layers;
    return pooling === "before" ? [POOL, ...layers] : [...layers, POOL];
  }

  /** The rows from the picture up: how many units, which layer makes them, what one of them sees and where. */
  function rows(layers, columns = COLUMNS) {
    const all = [{ name: "picture", units: columns, field: { size: 1, jump: 1, start: 0.5 } }];
    for (const layer of layers) {
      const below = all[all.length - 1];
      const units = Math.floor((below.units + 2 * layer.pad - layer.kernel) / layer.stride) + 1;
      all.push({ ...layer, units, field: grow(below.field, layer.kernel, layer.stride, layer.pad) });
    }
    return all;
  }

  /** The units that `unit` of row `at` is made from: for each row from the picture to `at` the first, the last, how many, and how
   *  many zeros of padding are read to the left and right. */
  function cone(all, at, unit) {
    const lit = [];
    let [first, last, left, right] = [unit, unit, 0, 0];
    for (let k = at; k >= 0; k--) {
      lit[k] = { first, last, count: last - first + 1, left, right };
      if (k === 0) break;
      const { kernel, stride, pad } = all[k];
      const [from, to] = [first * stride - pad, last * stride - pad + kernel - 1];
      [first, last] = [Math.max(0, from), Math.min(all[k - 1].units - 1, to)];
      [left, right] = [first - from, to - last];
    }
    return lit;
  }

  /** The units that a column of the picture goes into: for each row the first, the last and how many. */
  function reach(all, column) {
    return all.map((_, k) => {
      const fed = Array.from({ length: all[k].units }, (__, unit) => unit).filter((unit) => {
        const { first, last } = cone(all, k, unit)[0];
        return first <= column && column <= last;
      });
      return { first: fed[0], last: fed[fed.length - 1], count: fed.length, left: 0, right: 0 };
    });
  }

  window.vggExplorer.connections = { rows, cone, reach, layersOf, STACKS, POOLINGS };

  // ---- words -----------------------------------------------------------------------------------------------------------------

  const several = (n, one, many) => `${n} ${n === 1 ? one : many}`;
  const span = ({ first, last }) => (first === last ? String(first) : `${first} to ${last}`);

  /** What is lit, in words: what counts, and the rest. */
  function words(all, at, unit) {
    const { name, the, units, field } = all[at];
    if (at === 0) {
      const fed = reach(all, unit).map((lit, k) => `${several(lit.count, "unit", "units")} of ${all[k].the}${all[k].name}`).slice(1);
      return [`Column ${unit} of the picture goes into ${fed[fed.length - 1]}. `,
        fed.length > 1 ? `On the way: ${fed.slice(0, -1).join(", then ")}.` : ""];
    }
    const lit = cone(all, at, unit);
    const outside = field.size - lit[0].count;
    const way = lit.slice(1, at).map((row, k) => `${row.count} of ${all[k + 1].the}${all[k + 1].name}`).reverse();
    return [`Unit ${unit} of the ${units} in ${the}${name} sees ${lit[0].count} of the picture's columns (${span(lit[0])})`
      + (outside ? `; the other ${outside} of its ${field.size} lie outside, on padding. ` : ". "),
    (way.length ? `On the way: ${way.join(", then ")}. ` : "") + `${sum(all, at)} pixels a side.`];
  }

  /** How the field grows, written out: one pixel, and (kernel - 1) jumps a layer. */
  function sum(all, at) {
    const parts = all.slice(1, at + 1).map(({ kernel }, k) => `${kernel - 1}${times}${all[k].field.jump}`);
    return `Receptive field: 1 + ${parts.join(" + ")} = ${all[at].field.size}`;
  }

  // ---- the drawing -----------------------------------------------------------------------------------------------------------

  const GAP = 54;
  const CELL = 17;

  function connectionsView(root) {
    const { layers = "3,3,3", pooling = "none" } = root.dataset;
    const state = { all: [], at: 0, unit: 0 };
    const options = (names, chosen) => Object.entries(names).map(([value, name]) => h("option", { value, selected: value === chosen }, name));
    const choice = h("select", { "data-long": "", onchange: () => update() }, ORDER.map((key) => h("option", { value: key, selected: key === layers }, STACKS[key][0])));
    const pool = h("select", { onchange: () => update() }, options(POOLINGS, pooling));
    const row = h("select", { onchange: () => move(Number(row.value), state.unit) });
    const unit = h("input", { type: "range", min: 0, step: 1, oninput: () => move(state.at, Number(unit.value)) });
    const summary = h("p", { class: "ex-said", role: "status", "aria-live": "polite" });
    const hint = h("p", { class: "ex-note", id: fresh() },
      "Point at a unit, tap it, or focus the drawing and use the arrow keys. Units and columns count from 0. Dashed: zeros of padding.");
    const svg = s("svg", { class: "ex-rows", tabindex: 0, role: "application", "aria-describedby": hint.id,
      onpointermove: pointed, onpointerdown: pointed, onkeydown: pressed });

    root.replaceChildren(
      h("div", { class: "ex-controls" }, control("Stack", choice), control(`Pooling 2${times}2`, pool)),
      h("div", { class: "ex-chart" }, svg),
      hint,
      h("div", { class: "ex-controls" }, control("Row", row), control("Unit", unit)),
      summary);
    let pooled = pooling; // the reader's choice, while blocks have their own

    function update() {
      const own = ownPoolings(choice.value);
      if (!own && !pool.disabled) pooled = pool.value;
      pool.disabled = own;
      pool.replaceChildren(...(own ? options({ own: "those of the blocks" }) : options(POOLINGS, pooled)));
      state.all = rows(layersOf(choice.value, pooled));
      row.replaceChildren(...state.all.map(({ name }, k) => h("option", { value: k }, name)).reverse());
      const top = state.all.length - 1;
      move(top, Math.floor(state.all[top].units / 2));
    }

    function move(at, wanted) {
      const to = Math.max(0, Math.min(state.all.length - 1, at));
      Object.assign(state, { at: to, unit: Math.max(0, Math.min(state.all[to].units - 1, wanted)) });
      row.value = state.at;
      unit.max = state.all[state.at].units - 1;
      unit.value = state.unit;
      unit.setAttribute("aria-valuetext", `unit ${state.unit}`);
      const [first, rest] = words(state.all, state.at, state.unit);
      summary.replaceChildren(h("strong", {}, first), rest);
      draw();
    }

    // -- where things stand
    const width = () => Math.max(260, svg.parentNode.clientWidth || 640);
    const head = () => (width() < 480 ? 78 : 92);
    /** Columns of padding on each side of the drawing. */
    const margin = () => Math.max(...state.all.slice(1).map(({ pad }, k) => pad * state.all[k].field.jump), 0);
    const scale = () => (width() - head() - 1) / (COLUMNS + 2 * margin());
    const X = (column) => head() + (column + margin()) * scale();
    const top = (k) => 4 + (state.all.length - 1 - k) * GAP;
    const middle = (k, i) => state.all[k].field.start + i * state.all[k].field.jump;

    function cell(k, i, kind) {
      const { jump } = state.all[k].field;
      const gap = scale() * jump > 8 ? 2 : 1;
      return s("rect", { x: X(middle(k, i) - jump / 2) + gap / 2, y: top(k), width: scale() * jump - gap, height: CELL, class: kind });
    }

    /** Lines from a unit down to what it reads, as far as that lies between two units of the row below. */
    function lines(k, units, from, to) {
      const { kernel, stride, pad } = state.all[k];
      let path = "";
      for (const i of units) {
        for (let tap = 0; tap < kernel; tap++) {
          const j = i * stride - pad + tap;
          if (j >= from && j <= to) {
            path += `M${X(middle(k, i)).toFixed(1)} ${top(k) + CELL}L${X(middle(k - 1, j)).toFixed(1)} ${top(k - 1)}`;
          }
        }
      }
      return path;
    }

    const range = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

    function draw() {
      const { all, at, unit: chosen } = state;
      const lit = at === 0 ? reach(all, chosen) : cone(all, at, chosen);
      const parts = [];
      for (let k = all.length - 1; k > 0; k--) {
        parts.push(s("path", { class: "ex-link", d: lines(k, range(0, all[k].units - 1), 0, all[k - 1].units - 1) }));
        if (lit[k] && lit[k - 1]) {
          const below = lit[k - 1];
          parts.push(s("path", { class: "ex-link ex-lit",
            d: lines(k, range(lit[k].first, lit[k].last), below.first - below.left, below.last + below.right) }));
        }
      }
      all.forEach(({ name, units }, k) => {
        const { first = 0, last = -1, left = 0, right = 0, count = 0 } = lit[k] ?? {};
        const zeros = all[k + 1]?.pad ?? 0;
        range(0, zeros - 1).forEach((i) => {
          parts.push(cell(k, -1 - i, `ex-zero${i < left ? " ex-lit" : ""}`), cell(k, units + i, `ex-zero${i < right ? " ex-lit" : ""}`));
        });
        range(0, units - 1).forEach((i) => {
          const on = i >= first && i <= last;
          parts.push(cell(k, i, `ex-unit${on ? " ex-lit" : ""}${k === 0 ? " ex-input" : ""}${k === at && i === chosen ? " ex-chosen" : ""}`));
        });
        parts.push(label(0, top(k) + 8, name), label(0, top(k) + 22, `${count} lit`, { class: count ? "" : "ex-dim" }));
      });
      const height = top(0) + 28;
      svg.setAttribute("width", width());
      svg.setAttribute("height", height);
      svg.setAttribute("aria-label", `Rows of units, the picture at the bottom. Chosen: ${all[at].name}, unit ${chosen}.`);
      svg.replaceChildren(...parts);
      fitText(svg);
    }

    // -- the reader's hand
    function pointed(event) {
      const box = svg.getBoundingClientRect();
      const near = (y) => range(0, state.all.length - 1).reduce((a, b) => (Math.abs(top(b) + CELL / 2 - y) < Math.abs(top(a) + CELL / 2 - y) ? b : a));
      const at = near(event.clientY - box.top);
      const column = (event.clientX - box.left - head()) / scale() - margin();
      const { start, jump } = state.all[at].field;
      const unit_ = Math.max(0, Math.min(state.all[at].units - 1, Math.round((column - start) / jump)));
      if (at !== state.at || unit_ !== state.unit) move(at, unit_);
    }

    function pressed(event) {
      const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const rise = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      const end = { Home: 0, End: state.all[state.at].units - 1 }[event.key];
      if (side === undefined && rise === undefined && end === undefined) return;
      event.preventDefault();
      if (end !== undefined) move(state.at, end);
      else if (side) move(state.at, state.unit + side);
      else {
        const at = Math.max(0, Math.min(state.all.length - 1, state.at + rise));
        const { start, jump } = state.all[at].field;
        move(at, Math.round((middle(state.at, state.unit) - start) / jump)); // the unit above or below the same place
      }
    }

    update();
    onWidth(svg.parentNode, draw);
  }

  view("connections", connectionsView);
})();
