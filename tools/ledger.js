(() => {
  const bar = document.querySelector(".ledger-filter"), rows = [...document.querySelectorAll("table.ledger tbody tr")];
  const names = [...document.querySelectorAll(".ledger-summary .status")].map(s => s.textContent);
  const show = wanted => {
    rows.forEach(r => { r.hidden = wanted !== "all" && r.dataset.status !== wanted.replace(" ", "-"); });
    document.querySelectorAll("table.ledger").forEach(t => { t.closest("section").hidden = !t.querySelector("tbody tr:not([hidden])"); });
    bar.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b.value === wanted));
  };
  ["all", ...names].forEach(name => {
    const b = document.createElement("button");
    b.type = "button"; b.value = b.textContent = name; b.onclick = () => show(name);
    bar.append(b);
  });
  bar.hidden = false;
  show("all");
})();
