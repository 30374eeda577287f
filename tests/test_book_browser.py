"""The pages in a browser: at a desk, on a phone, in the dark. No request leaves the machine,
nothing is written to the console, nothing is wider than the window, formulas are set; the ledger's
filter works and is not needed; terms explain themselves; the shortened style sheet draws what the
whole ones draw.
"""

import functools
import gzip
import os
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from serving import Quiet, served

import vggbook
from tools import check, stage, weight

VIEWS = {
    "desk": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": {"width": 1024, "height": 768}, "color_scheme": "dark"},
}
PAGES = [f"{f}.html" for f in stage.toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))] + [
    "search.html?q=convolution"
]
CHAPTERS = [p for p in PAGES if p.startswith("notebooks/")]
OPEN = "() => { for (const d of document.querySelectorAll('main details')) d.open = true; }"
STATE = """() => ({
  math: document.querySelectorAll('span.math, div.math').length,
  raw: [...document.querySelectorAll('span.math, div.math')]
    .filter(e => !e.querySelector('mjx-container')).length,
  broken: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].length,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  images: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  theme: document.documentElement.dataset.theme,
})"""


class Compressed(Quiet):
    """Serves files compressed, as a web host does, and counts what it sent."""

    protocol_version = "HTTP/1.1"
    sent = 0
    packed: dict = {}  # noqa: RUF012  one cache for all requests

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return self.send_error(404)
        kind = self.guess_type(str(path))
        text = kind.split("/")[0] == "text" or kind.split("/")[-1] in (
            "javascript",
            "json",
            "svg+xml",
        )
        if path not in self.packed:
            data = path.read_bytes()
            self.packed[path] = gzip.compress(data, 6) if text else data
        body = self.packed[path]
        type(self).sent += len(body)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if text:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def base(html):
    with served(html, Compressed) as address:
        yield address


def visit(context, base, page):
    """Open a page; returns it with what went wrong on the way."""
    p, wrong = context.new_page(), []
    p.on(
        "console",
        lambda m: m.type in ("error", "warning") and wrong.append(f"console: {m.text[:200]}"),
    )
    p.on("pageerror", lambda e: wrong.append(f"script error: {str(e)[:200]}"))
    p.on(
        "request",
        lambda r: (
            r.url.startswith((base, "data:", "blob:"))
            or wrong.append(f"request to another host: {r.url}")
        ),
    )
    p.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
    p.goto(f"{base}/{page}", wait_until="load", timeout=120_000)  # on a busy machine, too
    p.evaluate("""async () => { await window.setFormulas?.(); await document.fonts.ready;
        for (const s of document.querySelectorAll('.bd-article > section > section'))
            s.style.contentVisibility = 'visible'; }""")
    return p, wrong


# Every page, visited once in each view


PICTURES = """() => [...document.querySelectorAll('main .cell_output img')].map(i => {
    const s = getComputedStyle(i), drawn = i.classList.contains('drawn') && i.src.endsWith('.svg');
    return [drawn, s.filter, s.backgroundColor]; })"""
SMALL = """() => [...document.querySelectorAll('main img.drawn')]
  .filter(i => i.width && 14 * i.width / i.naturalWidth < 11)
  .map(i => [i.alt.slice(0, 50), (14 * i.width / i.naturalWidth).toFixed(1)])
  .map(([alt, height]) => `${alt}: ${height}`)"""
CODE = """() => [...document.querySelectorAll('.cell_input pre')].map(e => [
    Math.max(...e.textContent.split('\\n').map(l => l.length)),
    e.scrollWidth - e.clientWidth,
    getComputedStyle(e).whiteSpace, e.textContent.slice(0, 40)])"""
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
CLIPPED = """() => {
  const wrong = [];
  const leaf = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())
    || ["IMG", "svg", "MJX-CONTAINER", "SELECT", "INPUT", "BUTTON"].includes(e.tagName);
  const aside = "mjx-container *, .visually-hidden, .headerlink, svg *, "
    + "option, script, style, .highlight button";
  for (const e of document.querySelectorAll("main article *")) {
    if (!leaf(e) || e.matches(aside)) continue;
    const r = e.getBoundingClientRect();
    if (r.width < 1 || r.height < 1) continue;
    for (let a = e.parentElement, left = r.left, right = r.right; a; a = a.parentElement) {
      const overflow = getComputedStyle(a).overflowX, box = a.getBoundingClientRect();
      const root = a === document.documentElement;
      if (overflow === "visible" && !root) continue;
      if (a.matches(".visually-hidden, thead")) break;
      const scrolls = overflow === "auto" || overflow === "scroll";
      const from = scrolls ? box.left + a.clientLeft - a.scrollLeft : box.left;
      const to = scrolls ? from + a.scrollWidth : root ? window.innerWidth : box.right;
      if (left < from - 1 || right > to + 1) {
        const span = (low, high) => `${Math.round(low)} to ${Math.round(high)}`;
        const text = e.textContent.trim().slice(0, 40);
        wrong.push(`${e.tagName} "${text}": ${span(left, right)} `
          + `in ${a.tagName}.${a.className} ${span(from, to)}`);
        break;
      }
      if (scrolls) break;
    }
  }
  return wrong;
}"""


def axe() -> str | None:
    """The script of axe-core, where it has been installed or AXE names its axe.min.js."""
    installed = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    path = Path(os.environ.get("AXE", installed))
    return path.read_text(encoding="utf-8") if "AXE" in os.environ or path.exists() else None


# AXE_ALL=1: all rules on every page in every view, with what is folded folded and open. Else every
# rule once; in the dark and on a phone those that depend on colours or on width, on every sixth
# page: the look is one style sheet's.
THOROUGH = "AXE_ALL" in os.environ
TAGS = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
AGAIN = {
    "dark": ["color-contrast", "link-in-text-block"],
    "phone": ["target-size", "scrollable-region-focusable", "meta-viewport"],
}


def violations(p, script: str, view: str, page: str, state: str) -> list[str]:
    """The rules of accessibility that the page breaks as it stands."""
    only = TAGS
    if view in AGAIN and not THOROUGH:
        if page not in PAGES[::6]:
            return []
        only = {"type": "rule", "values": AGAIN[view]}
    p.wait_for_timeout(1500 if THOROUGH else 500)  # what scrolls is measured when there is time
    p.evaluate(script)
    run = "only => axe.run(document, {resultTypes: ['violations'], runOnly: only})"
    return [
        f"{page} ({view}, {state}): {v['id']}: {len(v['nodes'])}: {v['nodes'][0]['html'][:120]}"
        for v in p.evaluate(run, only)["violations"]
    ]


def look(context, base, view: str, page: str) -> dict:
    """All that the tests below want to know of a page in a view, from one visit. Folds are opened
    on the way: what comes before sees the page as it loads, what comes after all of it.
    """
    script, Compressed.sent = axe(), 0
    p, trouble = visit(context, base, page)
    seen = {"trouble": trouble, "state": p.evaluate(STATE), "pictures": p.evaluate(PICTURES)}
    if view == "desk":
        p.wait_for_load_state("networkidle", timeout=120_000)
        seen["kilobytes"] = Compressed.sent // 1000
    if view == "phone" and page in CHAPTERS:
        p.evaluate("() => { for (const i of document.images) i.loading = 'eager'; }")
        p.wait_for_load_state("networkidle", timeout=120_000)
        seen["small"] = p.evaluate(SMALL)
    seen["axe"] = []
    if script and THOROUGH:
        seen["axe"] += violations(p, script, view, page, "folded")
    p.evaluate(OPEN)
    if script:
        seen["axe"] += violations(p, script, view, page, "open")
    if view == "desk":
        seen["code"] = p.evaluate(CODE)
        seen["clipped"] = {}
        for width in (1280, 390):
            p.set_viewport_size({"width": width, "height": 844})
            p.wait_for_timeout(100)
            p.evaluate(TWO_FRAMES)
            seen["clipped"][width] = p.evaluate(CLIPPED)
    p.close()
    return seen


@pytest.fixture(scope="module")
def views(browser, base):
    """A function of a view's name: what each page shows in it. At the desk each page is a reader's
    first, with nothing fetched before.
    """

    @functools.cache
    def looked(view: str) -> dict[str, dict]:
        found, context = {}, browser.new_context(**VIEWS[view])
        for page in PAGES:
            found[page] = look(context, base, view, page)
            if view == "desk":
                context.close()
                context = browser.new_context(**VIEWS[view])
        context.close()
        return found

    return looked


BROKEN = """<!doctype html><html lang="en"><head><title>Broken</title>
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width"></head>
<body><main><article>
<img src="gone.png" alt="nothing"><p class="wide" style="width: 1500px">wide</p>
<span class="math">x</span>
<details><summary>fold</summary><div style="overflow: hidden; width: 100px">
<p style="width: 200px">cut</p></div><div style="overflow: hidden; width: 600px; max-width: 90vw">
<p style="width: 500px">cut where it is narrow</p></div>
<div class="cell_input"><pre>x = 1</pre></div></details>
</article></main><script>console.error("said")</script></body></html>"""


def test_a_visit_sees_what_is_wrong_with_a_page(browser, tmp_path):
    """The canary of the tests below: each thing that they look for, on one page that has it."""
    (tmp_path / "broken.html").write_text(BROKEN, encoding="utf-8")
    context = browser.new_context(**VIEWS["desk"])
    with served(tmp_path, Compressed) as address:
        seen = look(context, address, "desk", "broken.html")
    context.close()
    assert any(t.startswith("404: ") for t in seen["trouble"])
    assert "console: said" in seen["trouble"]
    state = seen["state"]
    assert state["math"] == state["raw"] == 1 and state["wide"] > 0 and len(state["images"]) == 1
    assert [columns for columns, *_ in seen["code"]] == [5]
    said = {width: " ".join(found) for width, found in seen["clipped"].items()}
    assert all('"wide"' in said[width] and '"cut"' in said[width] for width in said)
    assert "cut where it is narrow" in said[390] and "cut where it is narrow" not in said[1280]


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_in_a_browser(views, view):
    wrong = []
    for page, look in views(view).items():
        seen, state = list(look["trouble"]), look["state"]
        seen += [f"{state['raw']} of {state['math']} formulas are not set"] if state["raw"] else []
        seen += [f"{state['broken']} formulas are wrong"] if state["broken"] else []
        seen += [f"{state['wide']} pixels wider than the window"] if state["wide"] > 0 else []
        seen += [f"picture not shown: {src}" for src in state["images"]]
        seen += (
            ["not in dark mode"]
            if VIEWS[view].get("color_scheme") == "dark" != state["theme"]
            else []
        )
        wrong += [f"{page} ({view}): {s}" for s in dict.fromkeys(seen)]
    assert wrong == []


def test_first_load_is_light(views):
    """What a first visit to any page fetches, compressed: at most 600 kB."""
    sizes = {page: look["kilobytes"] for page, look in views("desk").items()}
    assert min(sizes.values()) > 10
    assert {page: kb for page, kb in sizes.items() if kb > 600} == {}


TURNED = "invert(1) hue-rotate(180deg)"


def test_drawings_follow_the_theme_and_photographs_do_not(views):
    looks = {}
    for view in ("desk", "dark"):
        for page in CHAPTERS:
            for drawn, filtered, ground in views(view)[page]["pictures"]:
                looks.setdefault((view, drawn), set()).add((filtered, ground))
    none = "rgba(0, 0, 0, 0)"
    assert looks[("desk", True)] == {("none", none)}
    assert looks[("dark", True)] == {(TURNED, none)}
    assert looks.get(("desk", False), {("none", none)}) == {("none", none)}
    card = {("none", "rgb(251, 251, 249)")}
    assert looks.get(("dark", False), card) == card


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off(views, width):
    """What is wider than its place can be scrolled to: no box that hides its overflow cuts text,
    formulas or pictures.
    """
    found = {page: look["clipped"][width] for page, look in views("desk").items()}
    assert [f"{page}: {c}" for page, clipped in found.items() for c in clipped[:3]] == []


@pytest.mark.parametrize(
    "style, found",
    [
        ("overflow: hidden; width: 100px", 1),
        ("overflow: auto; width: 100px", 0),
        ("overflow: auto; width: 100px; display: flex; flex-direction: row-reverse", 1),
        ("width: 100px", 0),
    ],
)
def test_the_test_for_cut_content_finds_it(browser, style, found):
    p = browser.new_page()
    inside = '<div style="width: 200px; flex: none">a formula</div>'
    p.set_content(f'<main><article><div style="{style}">{inside}</div></article></main>')
    assert len(p.evaluate(CLIPPED)) == found
    p.close()


def test_code_of_88_columns_neither_wraps_nor_scrolls(views):
    wrong, seen = [], 0
    for page in CHAPTERS:
        for columns, over, space, start in views("desk")[page]["code"]:
            seen = max(seen, columns * (columns <= 88))
            if columns <= 88 and (over > 0 or space != "pre"):
                wrong.append(f"{page}: {start}")
    assert wrong == [] and seen >= 80


def test_text_in_drawings_is_11_pixels_high_on_a_phone(views):
    """Drawings are set in 10.5 points; a wide one is not shrunk and scrolls in a box."""
    phone = views("phone")
    assert [f"{page}: {small}" for page in CHAPTERS for small in phone[page]["small"]] == []


def test_accessibility_rules(views):
    """axe-core, where it has been installed (npm install axe-core) or AXE names its axe.min.js:
    WCAG 2.2 A and AA and good practice, with what is folded open (AXE_ALL=1: and folded).
    """
    if axe() is None:
        pytest.skip("axe-core is not installed here (npm install axe-core)")
    assert [v for view in VIEWS for look in views(view).values() for v in look["axe"]] == []


# What readers do


def test_ledger_filters_by_status_and_can_be_read_without_script(browser, base):
    p, wrong = visit(browser.new_context(), base, "book/ledger.html")
    visible = "table.ledger tbody tr:visible"
    settled = p.locator("details.ledger-fold tbody tr").count()
    assert p.locator(visible).count() == 174 - settled
    names = [s.strip() for s in p.locator(".ledger-summary .status").all_inner_texts()]
    for name in names:
        p.get_by_role("button", name=name, exact=True).click()
        counted = p.locator(".ledger-summary tr", has=p.locator(f".status-{name}"))
        assert p.locator(visible).count() == int(counted.locator(".number").inner_text()), name
    assert p.get_by_role("button", name=names[-1]).get_attribute("aria-pressed") == "true"
    p.get_by_role("button", name="all", exact=True).click()
    assert p.locator(visible).count() == 174 - settled and wrong == []
    p.context.close()
    plain = browser.new_context(java_script_enabled=False)
    q = plain.new_page()
    q.goto(f"{base}/book/ledger.html")
    assert q.locator(visible).count() == 174 - settled
    assert not q.locator(".ledger-filter").is_visible()
    for fold in q.locator("details.ledger-fold > summary").all():
        fold.press("Enter")
    assert q.locator(visible).count() == 174
    plain.close()


def test_a_link_into_a_fold_of_the_ledger_opens_it(browser, base, html):
    rows = check.parsed(html / "book/ledger.html").select("details.ledger-fold tbody tr")
    p, _ = visit(browser.new_context(), base, f"book/ledger.html#{rows[0]['id']}")
    assert p.locator(f"[id='{rows[0]['id']}']").is_visible()
    p.context.close()


def with_ticks(html):
    return next(p for p in CHAPTERS if check.parsed(html / p).select("details.tick"))


def test_a_check_opens_by_keyboard_by_touch_and_from_the_ledger(browser, base, html):
    page = with_ticks(html)
    p, wrong = visit(browser.new_context(), base, page)
    tick = p.locator("details.tick").first
    mark, says = tick.locator("summary"), tick.locator("p")
    statement = mark.locator(".visually-hidden").inner_text().split(": ", 1)[1]
    assert not says.is_visible() and len(statement) > 10
    mark.focus()
    p.keyboard.press("Enter")
    assert says.is_visible() and statement[:10] in says.inner_text()
    p.keyboard.press("Enter")
    assert not says.is_visible() and wrong == []
    box = mark.bounding_box()
    assert box["width"] >= 24 and box["height"] >= 24
    anchor = tick.get_attribute("id")
    p.context.close()
    phone, _ = visit(browser.new_context(**VIEWS["phone"]), base, page)
    phone.locator("details.tick summary").first.tap()
    assert phone.locator("details.tick p").first.is_visible()
    phone.context.close()
    linked, _ = visit(browser.new_context(), base, f"{page}#{anchor}")
    assert linked.locator(f"[id='{anchor}'] p").is_visible()
    linked.context.close()


def test_all_chapters_stand_in_the_sidebar_in_order(html):
    for page in (PAGES[0], CHAPTERS[0]):
        items = [
            li.get_text(strip=True) for li in check.parsed(html / page).select("li.toctree-l1")
        ]
        numbers = [int(m[1]) for item in items if (m := re.match(r"(\d+)\.", item))]
        assert numbers == sorted(numbers) and set(range(1, 13)) <= set(numbers)


@pytest.mark.parametrize("page", CHAPTERS[:2])
def test_terms_explain_themselves_under_pointer_and_focus(browser, base, html, page):
    p, wrong = visit(browser.new_context(), base, page)
    tip, terms = p.get_by_role("tooltip"), p.locator("main a.term")
    assert terms.count() >= 5 and not tip.is_visible()
    glossary = check.parsed(html / "book" / "glossary.html")
    for i in (0, 1):
        term = terms.nth(i)
        entry = glossary.find(id=term.get_attribute("href").split("#")[1])
        definition = " ".join(entry.p.get_text().split())
        for reach in (term.hover, term.focus):
            reach()
            tip.wait_for(state="visible")
            assert " ".join(tip.inner_text().split()).endswith(definition)
            assert term.get_attribute("aria-describedby") == tip.get_attribute("id")
            p.keyboard.press("Escape")
            assert not tip.is_visible() and term.get_attribute("aria-describedby") is None
            p.mouse.move(0, 0)
            term.blur()
    terms.first.hover()
    tip.hover()  # on the way to the definition it stays
    p.wait_for_timeout(400)
    assert tip.is_visible() and wrong == []
    p.context.close()


def test_a_tap_explains_a_term_and_a_second_one_follows_it(browser, base):
    p, _ = visit(browser.new_context(**VIEWS["phone"]), base, CHAPTERS[0])
    term, tip = p.locator("main a.term").first, p.get_by_role("tooltip")
    term.tap()
    tip.wait_for(state="visible")
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and CHAPTERS[0] in p.url
    term.tap()
    p.wait_for_url("**/glossary.html#*")
    p.context.close()


SCROLLER = """table => {
  for (let e = table.parentElement; e.tagName !== 'MAIN'; e = e.parentElement)
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'auto') return true;
  return false;
}"""
FIRST_COLUMN = """async table => {
  let box = table.parentElement;
  const scrolls = e =>
    e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'auto';
  while (!scrolls(box)) box = box.parentElement;
  const still = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const look = () => {
    const wrong = [], rows = [...table.rows], edge = box.getBoundingClientRect();
    for (const row of rows) {
      const cell = row.cells[0];
      const down = cell.getBoundingClientRect().top - window.innerHeight / 2;
      window.scrollBy({ top: down, behavior: 'instant' });
      const at = cell.getBoundingClientRect();
      const top = document.elementFromPoint(at.left + 4, at.top + at.height / 2);
      if (Math.abs(at.left - edge.left) > 2) wrong.push(`${cell.textContent} at ${at.left}`);
      if (at.width > 0.6 * edge.width) wrong.push(`${cell.textContent} is ${at.width} wide`);
      if (!cell.contains(top)) wrong.push(`${cell.textContent} is covered`);
    }
    return { wrong, shadow: getComputedStyle(rows.at(-1).cells[0], '::after').content };
  };
  const before = look();
  box.scrollLeft = box.scrollWidth;
  await still();
  const after = look();
  if (!box.scrollLeft) after.wrong.push('it does not scroll');
  return [before, after];
}"""


def test_the_first_column_of_a_wide_table_stays_on_a_phone(browser, base):
    """Scrolled to its end, a table still names its rows: each first cell stands at the left edge
    on top, leaves room for the others, and throws a shadow, which it does not before.
    """
    context = browser.new_context(**VIEWS["phone"])
    wide, wrong = 0, []
    for page in (CHAPTERS[0], "notebooks/03_shape_tracing.html"):
        p, _ = visit(context, base, page)
        for table in p.query_selector_all("main article table"):
            if table.is_visible() and table.evaluate(SCROLLER):
                before, after = table.evaluate(FIRST_COLUMN)
                wide += 1
                wrong += [f"{page}: {m}" for m in after["wrong"]]
                wrong += [
                    f"{page}: shadow {before['shadow']!r} before, {after['shadow']!r} after"
                ] * (before["shadow"] != "none" or after["shadow"] == "none")
        p.close()
    context.close()
    assert wide >= 2 and wrong == []


def test_a_verdict_is_seen_on_a_phone_without_scrolling(browser, base, html):
    """A table with a column of verdicts is not wider than the page."""
    pages = [p for p in CHAPTERS if ">verdict</th>" in (html / p).read_text(encoding="utf-8")]
    context = browser.new_context(**VIEWS["phone"])
    judged, wide = 0, []
    for page in pages:
        p, _ = visit(context, base, page)
        for table in p.query_selector_all("main article table:has(th:text-is('verdict'))"):
            judged += 1
            wide += [f"{page}: {table.inner_text()[:60]}"] * table.evaluate(SCROLLER)
        p.close()
    context.close()
    assert judged >= 4 and wide == []


def test_code_that_scrolls_is_reached_by_keyboard(browser, base):
    """On a phone, also in what was folded when the page was opened."""
    p, _ = visit(browser.new_context(**VIEWS["phone"]), base, CHAPTERS[0])
    p.evaluate(OPEN)
    scrolling = (
        "[...document.querySelectorAll('main pre')].filter(e => e.scrollWidth > e.clientWidth)"
    )
    p.wait_for_function(f"() => {scrolling}.every(e => e.tabIndex === 0)")
    assert p.evaluate(f"() => {scrolling}.length") > 5
    p.context.close()


def test_copy_buttons_copy(browser, base):
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    p, _ = visit(context, base, CHAPTERS[0])
    cell = p.locator("main div.cell_input:visible div.highlight").first
    cell.locator("button.copybtn").press("Enter")
    assert (
        p.evaluate("() => navigator.clipboard.readText()").strip()
        == cell.locator("pre").inner_text().strip()
    )
    context.close()


def test_formulas_wait_for_a_reader(browser, base, html):
    """MathJax, half of a chapter's weight, is not fetched before a formula is near or the reader
    moves.
    """
    far = next(p for p in CHAPTERS if check.parsed(html / p).select("main .math"))
    context, seen = browser.new_context(viewport={"width": 1280, "height": 200}), []
    p = context.new_page()
    p.on("request", lambda r: seen.append(r.url))
    p.goto(f"{base}/{far}", wait_until="networkidle")
    before = any("mathjax" in url for url in seen)
    p.mouse.move(50, 50)
    p.wait_for_selector("mjx-container", state="attached")
    assert not before and any("mathjax" in url for url in seen)
    context.close()


DRAWN = """() => [...document.querySelectorAll('body, body *')]
  .filter(e => !e.closest('mjx-container, svg'))
  .map(e => {
    const s = getComputedStyle(e), b = e.getBoundingClientRect();
    return [
      e.tagName + '.' + e.className, s.color, s.backgroundColor, s.fontSize, s.fontWeight,
      s.display, s.margin, s.padding, s.border, s.position, s.textDecorationLine,
      s.visibility, s.opacity, Math.round(b.width), Math.round(b.height),
    ].join(' | ');
  })"""


def drawn(page) -> list[str]:
    """How every element looks, once the page has come to rest: its scripts draw after loading."""
    before = page.evaluate(DRAWN)
    for _ in range(40):
        page.wait_for_timeout(150)
        now = page.evaluate(DRAWN)
        if now == before:
            break
        before = now
    return before


@pytest.mark.parametrize("view", VIEWS)
def test_the_one_style_sheet_draws_as_the_many_do(browser, base, html, view):
    """What tools/weight.py leaves out is not missed: the same page with the whole sheets looks the
    same, element by element.
    """
    context, static, wrong = browser.new_context(**VIEWS[view]), html / "_static", []
    whole = [next(static.glob(s)).relative_to(static).as_posix() for s in weight.SHEETS]
    for page in ("book/ledger.html", "book/explorer.html", CHAPTERS[0]):
        p, _ = visit(context, base, page)
        p.evaluate(OPEN)
        p.add_style_tag(
            content="* { transition: none !important; animation: none !important; "
            "scrollbar-width: none !important; }"  # they come and go with a list's length
        )
        short = drawn(p)
        p.evaluate(
            """async (sheets) => {
            const one = document.querySelector('link[href*="styles/book.css"]'), loaded = [];
            for (const s of sheets) {
                const link = document.createElement('link');
                Object.assign(link, {rel: 'stylesheet', href: '../_static/' + s});
                loaded.push(new Promise((done, failed) => {
                    Object.assign(link, {onload: done, onerror: failed});
                }));
                one.before(link);
            }
            await Promise.all(loaded);
            one.remove();
            document.body.getBoundingClientRect();
            await document.fonts.ready;
        }""",
            whole,
        )
        full = drawn(p)
        assert len(short) == len(full) > 100
        wrong += [
            f"{page} ({view}): {a}  but with all rules  {b}" for a, b in zip(short, full) if a != b
        ][:3]
        p.close()
    context.close()
    assert wrong == []


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".a{color:red}.b{color:blue}", ".a{color:red}"),
        (".a,.b,.a .b{x:y}", ".a{x:y}"),
        (".a:not(.b),.a:is(.b,.c){x:y}", ".a:not(.b),.a:is(.b,.c){x:y}"),
        ("@media print{.b{x:y}}@media print{.a{x:y}.b{x:y}}", "@media print{.a{x:y}}"),
        ('.a::before{content:"} .b{"}/* .c{} */p>a{x:y}', '.a::before{content:"} .b{"}\np>a{x:y}'),
        (
            "@font-face{src:url(b.woff)}@keyframes b{from{x:y}}",
            "@font-face{src:url(b.woff)}\n@keyframes b{from{x:y}}",
        ),
    ],
)
def test_only_rules_for_unknown_classes_go(css, kept):
    assert weight.purge(css, {"a"}) == kept


def test_every_page_is_described_dated_and_versioned(html):
    descriptions = []
    for page in PAGES[:-1]:
        soup = check.parsed(html / page)
        found = [m["content"] for m in soup.select("meta[name=description]")]
        assert len(found) == 1 and len(found[0]) > 40, page
        descriptions += found
        note = soup.select_one("main .run-note").get_text()
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", note) or "commit" not in note, page
        assert "computed on" in note or f"version {vggbook.__version__}" in note, page
    assert len(set(descriptions)) == len(descriptions)


def test_paper_has_no_folds(browser, base):
    p, _ = visit(browser.new_context(), base, CHAPTERS[0])
    folded = p.locator("main details:not([open])").count()
    p.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    assert folded > 3 and p.locator("main details:not([open])").count() == 0
    p.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    assert p.locator("main details:not([open])").count() == folded
    p.context.close()
