/* Elements of the page: made, labelled, and two kinds that come again, a slider with its value and work under way. */
"use strict";

(() => {
  /** An element with attributes, listeners (`onclick: ...`) and children; null and false leave an attribute or a child out. */
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
  const freshId = () => `think-${(serial += 1)}`;

  function field(text, control) {
    control.id = freshId();
    return h("div", { class: "think-field" }, h("label", { for: control.id }, text), control);
  }

  /** A slider with its value beside it, in words; `oninput` hears the number. */
  function sliding(text, attributes, words, oninput) {
    const said = h("span", { class: "think-value", "aria-hidden": "true" });
    const control = h("input", {
      type: "range",
      ...attributes,
      oninput: () => {
        oninput(Number(control.value));
        tell();
      },
    });
    function tell() {
      said.textContent = words(Number(control.value));
      control.setAttribute("aria-valuetext", said.textContent);
    }
    tell();
    const node = field(text, control);
    control.before(said);
    return { control, tell, node };
  }

  /** The head of a table: one row. */
  const head = (...titles) => h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title))));

  /** Work that its button began: the button waits, a bar shows how far the work is, and the keyboard keeps its place. */
  async function underWay(button, progress, work) {
    const focused = document.activeElement === button;
    button.disabled = true;
    progress.value = 0;
    progress.hidden = false;
    try {
      await work();
    } finally {
      button.disabled = false;
      progress.hidden = true;
      if (focused && document.activeElement === document.body) button.focus({ preventScroll: true });
    }
  }

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  /** One step of an arrow key: columns and rows; undefined for other keys, and for keys that are the browser's own. */
  function arrow(event) {
    const browsers = event.altKey || event.ctrlKey || event.metaKey;
    return browsers ? undefined : STEPS[event.key];
  }

  Object.assign(vggThink, { h, freshId, field, sliding, head, underWay, arrow });
})();
