/* The worker: the page asks, the net (net.js) computes beside it, and the answer comes as a promise. */
"use strict";

(() => {
  /** What runs in the worker, which reads this function as text: the nets that were decoded, and one answer to each question. */
  function answering(engine) {
    const nets = {};
    let maps = null; // of the last forward pass

    /** What the page is told of a net: all but its numbers, and each layer's receptive field. */
    function described(net) {
      const layers = net.layers.map(({ weight, bias, ...layer }) => ({ ...layer, field: engine.field(net, layer.name) }));
      return { ...net, scales: null, biases: null, layers };
    }

    const answer = {
      async decode({ data }) {
        const net = await engine.decode(data);
        nets[net.name] = net;
        return described(net);
      },
      forward({ net, picture }) {
        maps = engine.forward(nets[net], picture);
        return { maps, posterior: engine.mean(engine.positions(maps[maps.length - 1])) };
      },
      ask: ({ net, pictures }) => pictures.map((picture) => engine.ask(nets[net], picture)),
      unit: ({ net, layer, channel, y, x }) => engine.unit(nets[net], maps, layer, channel, y, x),
      dense: ({ net, picture }) => engine.dense(nets[net], picture),
      centre: ({ net, picture }) => {
        const macs = engine.cost(nets[net], ...nets[net].size);
        return { posterior: engine.centreCrop(nets[net], picture), macs };
      },
      crops: ({ net, picture }, step) => engine.crops(nets[net], picture, step),
    };

    self.onmessage = async ({ data: { id, task, ...given } }) => {
      try {
        const began = performance.now();
        const result = await answer[task](given, (share) => self.postMessage({ id, share }));
        self.postMessage({ id, result, ms: performance.now() - began });
      } catch (error) {
        self.postMessage({ id, error: error.message });
      }
    };
  }

  let worker = null;
  let count = 0;
  const waiting = new Map(); // questions without an answer, by number

  /** A worker from the functions' text: a page that is opened from disk may not load one from a file. */
  function started() {
    const text = `(${answering})((${vggEngine})([${vggEngine.parts}]));`;
    const made = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    made.onmessage = ({ data }) => heard(data);
    return made;
  }

  function heard({ id, share, result, error, ms }) {
    const question = waiting.get(id);
    if (share !== undefined) {
      question.step(share);
      return;
    }
    waiting.delete(id);
    if (error !== undefined) question.reject(new Error(error));
    else question.resolve({ result, ms });
  }

  /** The result of a task and the milliseconds that it took; `step` hears how far a long one is. */
  function ask(task, given, step = () => {}) {
    worker ??= started();
    const id = (count += 1);
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject, step });
      worker.postMessage({ id, task, ...given });
    });
  }

  Object.assign(vggThink, { ask });
})();
