/* Where a net comes from: the book's own by a script, fetched when the reader asks, or the reader's from a file. */
"use strict";

(() => {
  const { h, field, freshId, ask } = vggThink;
  const HERE = new URL(".", document.currentScript.src).href;
  const expected = {}; // nets that were asked for, by name: a promise and what settles it

  /** An exported net in the worker: what the page is told of it. */
  const decode = async (data) => (await ask("decode", { data })).result;

  /** What net-*.js calls with the net that it holds. */
  function add(data) {
    expected[data.name].resolve(data);
  }

  /** The exported net in net-<name>.js; a script, for a page that is opened from disk may not fetch. */
  function fetched(name) {
    if (expected[name]) return expected[name].promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => {
      entry.resolve = resolve;
      entry.reject = reject;
    });
    expected[name] = entry;
    const file = `net-${name}.js`;
    const script = h("script", { src: HERE + file });
    script.addEventListener("error", () => {
      delete expected[name];
      entry.reject(new Error(`${file} could not be read: check the connection and try again.`));
    });
    document.head.append(script);
    return entry.promise;
  }

  const trained = async (name) => decode(await fetched(name));

  /** The exported net in a reader's file, not yet decoded; an Error says why it is none. */
  async function read(file) {
    if (file.type.startsWith("image/")) throw new Error(`${file.name} is a picture: choose an exported net, a .json file.`);
    const none = new Error(`${file.name} is no exported net: it is not JSON.`);
    const start = await file.slice(0, 100).text(); // a checkpoint of gigabytes is not read to its end
    if (!/^\s*(\{|vggThink\.add\()/.test(start)) throw none;
    try {
      return JSON.parse((await file.text()).trim().replace(/^vggThink\.add\(/, "").replace(/\);$/, ""));
    } catch {
      throw none;
    }
  }

  /** The field for a file, with the place where a refusal stands; it outlives the nets that are opened with it. */
  class OwnNet {
    constructor(use) {
      this.use = use; // hears the net
      this.turn = 0; // counts the files: an answer to an older one is dropped
      this.alert = h("p", { class: "think-error", role: "alert", id: freshId() });
      this.opened = h("p", { class: "think-opened", "aria-live": "polite" });
      this.control = h("input", {
        type: "file", accept: ".json,.js,application/json", "aria-describedby": this.alert.id,
        onchange: () => this.open(this.control.files[0]),
      });
      this.node = h("details", {},
        h("summary", {}, "Open a net of your own"),
        h("p", {}, "Any net that this package has trained: ",
          h("code", {}, "python -m vggbook.book.export runs/mine/last.pt mine.json"), ". It stays on your machine."),
        field("File", this.control), this.alert, this.opened);
    }

    async open(file) {
      if (!file) return;
      const focused = document.activeElement === this.control;
      const turn = (this.turn += 1);
      this.opened.textContent = "";
      try {
        const net = await decode(await read(file));
        if (turn !== this.turn) return;
        this.alert.textContent = "";
        this.control.removeAttribute("aria-invalid");
        this.use(net);
        this.opened.textContent = `${file.name} is open: ${net.name}, ${net.classes.length} classes.`;
        if (focused) this.control.focus({ preventScroll: true });
      } catch (error) {
        if (turn === this.turn) this.refuse(error);
      }
    }

    refuse(error) {
      this.alert.textContent = `${error.message} The net above stays.`;
      this.control.setAttribute("aria-invalid", "true");
      this.control.value = ""; // so that the same file, mended, can be chosen again
    }
  }

  Object.assign(vggThink, { add, trained, OwnNet });
})();
