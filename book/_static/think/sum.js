/* One unit's sum in writing: the input channels that weigh most, tap by tap, the rest together, the bias, and what ReLU leaves. */
"use strict";

(() => {
  const { h, head, minus, number } = vggThink;
  const SHOWN = 4; // input channels

  const total = (parts) => parts.reduce((sum, part) => sum + part.sum, 0);

  /** The taps of an input channel as the rows of the kernel. */
  function kernelRows(taps, columns) {
    return Array.from({ length: taps.length / columns }, (_, row) => taps.slice(row * columns, (row + 1) * columns));
  }

  /** The taps' values or weights in the kernel's shape; zeros of the padding are grey. */
  function grid(part, columns, key) {
    const cell = (tap) => {
      const padding = key === "value" && !tap.inside;
      return h("td", { class: padding ? "zero" : null }, number(Number(tap[key].toPrecision(2))));
    };
    const rows = kernelRows(part.taps, columns).map((taps) => h("tr", {}, taps.map(cell)));
    return h("table", { class: "think-taps" }, h("tbody", {}, rows));
  }

  function table(shown, { parts, columns }) {
    const single = parts[0].taps.length === 1;
    const inputs = single ? "inputs" : "input channels";
    const caption = parts.length > shown.length ? `The ${shown.length} ${inputs} that weigh most, of ${parts.length}` : `The ${inputs}`;
    const line = (part) => h("tr", {},
      h("th", { scope: "row" }, String(part.input)),
      h("td", {}, grid(part, columns, "value")),
      h("td", {}, grid(part, columns, "weight")),
      h("td", {}, number(part.sum)));
    return h("table", { class: "think-parts" },
      h("caption", {}, caption),
      head("input", "what it holds", single ? "weight" : "filter", "sum"),
      h("tbody", {}, shown.map(line)));
  }

  /** What the worker says of a unit, `value` after ReLU, as a table and a line; `last`: it is a class score. */
  function writtenSum(unit, value, last) {
    const { bias, parts, sum } = unit;
    const shown = [...parts].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)).slice(0, SHOWN);
    const rest = parts.length > shown.length ? ` + ${number(total(parts) - total(shown))} of the others` : "";
    const end = last ? ", the class score: no ReLU follows." : `; after ReLU ${number(value)}.`;
    const line = `${shown.map((part) => number(part.sum)).join(" + ")}${rest} + bias ${number(bias)} = ${number(sum)}${end}`;
    return [table(shown, unit), h("p", {}, line.replaceAll(`+ ${minus("-")}`, `${minus("-")} `))];
  }

  Object.assign(vggThink, { writtenSum });
})();
