/* What every page needs beside the theme: glossary terms explained where they stand, code that can be scrolled by keyboard,
   formulas set in time, folds that open for printing. Without a script a term is a link to the glossary. */
(() => {
  "use strict";

  /* Terms: the definition appears under pointer or focus, stays while the pointer is on it, and goes with Escape. */
  const tip = document.createElement("div");
  let shown = null, leaving = 0, before = null;
  tip.id = "term-tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;

  function place() {
    const box = shown.getClientRects()[0] || shown.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 12);
    const above = box.bottom + tip.offsetHeight + 10 > window.innerHeight && box.top > tip.offsetHeight + 10;
    tip.style.left = `${Math.max(12, left)}px`;
    tip.style.top = `${above ? box.top - tip.offsetHeight - 5 : box.bottom + 5}px`;
  }

  function show(link) {
    clearTimeout(leaving);
    if (shown === link) return;
    hide();
    shown = link;
    const name = document.createElement("strong");
    name.textContent = link.dataset.term;
    tip.replaceChildren(name, ` ${link.dataset.definition}`);
    tip.hidden = false;
    link.setAttribute("aria-describedby", tip.id);
    place();
  }

  function hide() {
    clearTimeout(leaving);
    if (shown) shown.removeAttribute("aria-describedby");
    shown = null;
    tip.hidden = true;
  }

  const later = () => { clearTimeout(leaving); leaving = setTimeout(hide, 200); };

  for (const link of document.querySelectorAll("a.term")) {
    link.addEventListener("pointerenter", (e) => { if (e.pointerType !== "touch") show(link); });
    link.addEventListener("pointerleave", (e) => { if (e.pointerType !== "touch") later(); });
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", later);
    link.addEventListener("pointerdown", () => { before = shown; });
    link.addEventListener("click", (e) => {  /* a first tap explains, a second one follows the link */
      if (e.pointerType === "touch" && before !== link) { e.preventDefault(); show(link); }
    });
  }
  tip.addEventListener("pointerenter", () => clearTimeout(leaving));
  tip.addEventListener("pointerleave", later);
  document.addEventListener("keydown", (e) => { if (e.key === "Escape") hide(); });
  window.addEventListener("scroll", () => { if (shown) place(); }, { passive: true });
  document.querySelector("main").append(tip);

  /* A long page is laid out section by section, when there is time (book.css holds back what is far from the window); then what
     scrolls is measured, for it must be in the order of the tab key. Again when a fold opens or the width changes. */
  const idle = window.requestIdleCallback || ((f) => setTimeout(() => f({ timeRemaining: () => 8 }), 30));
  const parts = (root) => [...root.querySelectorAll(".bd-article > section > section, pre, .cell_output > .output, .cell_output [style*=overflow], .pst-scrollable-table-container, .table-box, .scroll-box, div.math")];

  function measure(queue) {
    idle((deadline) => {
      do {
        const e = queue.shift();
        if (e && e.tagName === "SECTION") {  /* one a frame: its layout is a task of its own */
          if (e.style.contentVisibility) continue;
          e.style.contentVisibility = "visible";
          break;
        }
        if (e) e.tabIndex = e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight ? 0 : -1;
      } while (queue.length && deadline.timeRemaining() > 8);
      if (queue.length) setTimeout(() => measure(queue), 20);
    });
  }

  /* Where a box is scrolled, the column that stays throws a shadow (book.css). */
  document.addEventListener("scroll", ({ target: e }) => { if (e.classList) e.classList.toggle("shifted", e.scrollLeft > 0); }, { capture: true, passive: true });

  let settling = 0;
  const again = () => { clearTimeout(settling); settling = setTimeout(() => measure(parts(document)), 300); };
  window.addEventListener("resize", again);
  document.addEventListener("toggle", (e) => { if (e.target.open) measure(parts(e.target)); }, true);
  if (location.hash) for (const e of document.querySelectorAll(".bd-article > section > section")) e.style.contentVisibility = "visible";
  again();

  /* Formulas: MathJax is fetched at the first move of the reader, who may be about to scroll to one; at once where one is in the window. */
  const mathjax = document.getElementById("mathjax");
  const formulas = [...document.querySelectorAll("span.math, div.math")];
  let set = null;

  function load() {
    return new Promise((done, failed) => {
      window.MathJax = { ...window.MathJax, startup: { typeset: false } };
      const script = document.createElement("script");
      script.src = mathjax.dataset.src;
      script.onload = () => MathJax.startup.promise.then(done, failed);
      script.onerror = failed;
      document.head.append(script);
    });
  }

  /* Sets all formulas, those near the window first; returns a promise of it. */
  function setFormulas() {
    if (set || !mathjax) return set || Promise.resolve();
    const away = (e) => Math.abs(e.getBoundingClientRect().top - window.innerHeight / 2);
    set = load().then(async () => {
      const queue = formulas.map((e) => [away(e), e]).sort((a, b) => a[0] - b[0]);
      for (const [, e] of queue) {
        await MathJax.typesetPromise([e]);
        await new Promise((next) => setTimeout(next));
      }
      again();
    });
    return set;
  }

  window.setFormulas = setFormulas;
  if (mathjax) {
    const near = new IntersectionObserver((seen) => { if (seen.some((e) => e.isIntersecting)) { near.disconnect(); setFormulas(); } },
      { rootMargin: "10% 0px" });
    for (const e of formulas) near.observe(e);
    for (const move of ["pointermove", "touchstart", "wheel", "keydown", "beforeprint"]) {
      window.addEventListener(move, setFormulas, { once: true, passive: true });
    }
    if (location.hash) setFormulas();
    setTimeout(setFormulas, 12000);
  }

  /* A link to a check, from the ledger, opens it. */
  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    if (target && target.tagName === "DETAILS") target.scrollIntoView({ block: "center" });
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();

  /* Paper has no folds */
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("main details:not([open])")];
    for (const d of folded) d.open = true;
    for (const i of document.images) i.loading = "eager";
  });
  window.addEventListener("afterprint", () => { for (const d of folded) d.open = false; });
})();
