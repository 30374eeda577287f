/* What the explorer's views share: elements, words for numbers, controls that say why they refuse, and `view`, which makes
 * every <div class="explorer" data-view="name"> of a page into one. No framework, no kernel.
 */
(() => {
  "use strict";
  const HERE = new URL(".", document.currentScript.src).href;

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
  const times = "\u00d7";
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
    kit: { HERE, h, s, label, fitText, count, fixed, short, times, fresh, control, guarded, onWidth },
  });
})();
