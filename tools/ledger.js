(() => {
  const bar = document.querySelector(".ledger-filter");
  const rows = [...document.querySelectorAll("table.ledger tbody tr")];
  const folds = [...document.querySelectorAll("details.ledger-fold")];
  const names = [...document.querySelectorAll(".ledger-summary .status")].map((s) => s.textContent);

  function show(wanted) {
    for (const r of rows) r.hidden = wanted !== "all" && r.dataset.status !== wanted;
    for (const part of [...folds, ...document.querySelectorAll("article section section")]) {
      part.hidden = !part.querySelector("tbody tr:not([hidden])");
    }
    for (const f of folds) f.open = wanted !== "all";
    for (const b of bar.querySelectorAll("button")) b.setAttribute("aria-pressed", b.value === wanted);
  }

  for (const name of ["all", ...names]) {
    const b = document.createElement("button");
    b.type = "button";
    b.value = b.textContent = name;
    b.onclick = () => show(name);
    bar.append(b);
  }
  bar.hidden = false;
  show("all");

  /* A link to a claim opens the fold that holds it. */
  function reach() {
    const row = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = row && row.closest("details.ledger-fold");
    if (fold) {
      fold.open = true;
      row.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", reach);
  reach();
})();
