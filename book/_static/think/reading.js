/* An exported net read from its file: what is wrong with it, in words, or its layers with their weights. The files come from
 * src/vggbook/book/export.py.
 */
"use strict";

vggEngine.parts.push(function reading({ lastMap, firstFc }) {
  const FORMAT = "vggbook net 1";

  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).arrayBuffer();
  }

  /** An entry of the file, unpacked, as numbers of a type. */
  async function unpacked(data, key, Type) {
    try {
      return new Type(await inflate(data[key]));
    } catch {
      throw new Error(`The file's ${key} are damaged: export the net again.`);
    }
  }

  // the numbers that a layer of each kind needs
  const NUMBERS = {
    conv: ["in", "out", "kernel", "stride", "pad", "groups"],
    pool: ["kernel", "stride"],
    lrn: ["size", "k", "alpha", "beta"],
    fc: ["in", "out"],
  };

  function refuse(data) {
    if (!data || typeof data !== "object" || data.format !== FORMAT) {
      throw new Error(`This is no exported net: its format is not "${FORMAT}". Write one with python -m vggbook.book.export.`);
    }
    for (const key of ["name", "classes", "mean", "std", "size", "layers", "weights", "scales", "biases"]) {
      if (!(key in data)) throw new Error(`The file lacks "${key}": export the net again.`);
    }
    for (const key of ["classes", "mean", "std", "size", "layers"]) {
      if (!Array.isArray(data[key])) throw new Error(`The file's "${key}" is no list: export the net again.`);
    }
    data.layers.forEach((layer, i) => {
      const numbers = NUMBERS[layer?.kind];
      if (!numbers) throw new Error(`Layer ${i + 1} of the file is of a kind that the page does not know: export the net again.`);
      const missing = numbers.find((key) => !Number.isFinite(layer[key]));
      if (missing) throw new Error(`Layer ${i + 1} of the file lacks the number "${missing}": export the net again.`);
    });
    const outputs = data.layers[data.layers.length - 1]?.out;
    if (outputs !== data.classes.length) {
      throw new Error(`The last layer gives ${outputs} scores for ${data.classes.length} classes: export the net again.`);
    }
  }

  /** The first FC layer must take what the layers below give for a crop. */
  function refuseMisfit(net) {
    const channels = net.layers.findLast((layer) => layer.kind === "conv")?.out;
    const given = channels * net.grid[0] * net.grid[1];
    const first = firstFc(net);
    if (!first || first.in !== given) {
      throw new Error(`The first FC layer takes ${first?.in} numbers, the layers below give ${given}: export the net again.`);
    }
  }

  /** An exported file as a net: its description, and for each layer with weights Float32Arrays `weight` and `bias`. */
  async function decode(data) {
    refuse(data);
    const whole = await unpacked(data, "weights", Int8Array);
    const scales = await unpacked(data, "scales", Float32Array);
    const biases = await unpacked(data, "biases", Float32Array);
    let at = 0;
    let channel = 0;
    const layers = data.layers.map((given) => {
      const layer = { ...given };
      if (layer.kind !== "conv" && layer.kind !== "fc") return layer;
      const row = layer.kind === "conv" ? (layer.in / layer.groups) * layer.kernel ** 2 : layer.in;
      if (at + row * layer.out > whole.length) throw new Error(`The weights end before ${layer.name}: export the net again.`);
      layer.weight = new Float32Array(row * layer.out);
      for (let o = 0; o < layer.out; o++) {
        const scale = scales[channel + o];
        for (let i = 0; i < row; i++) layer.weight[o * row + i] = whole[at + o * row + i] * scale;
      }
      layer.bias = biases.slice(channel, channel + layer.out);
      at += row * layer.out;
      channel += layer.out;
      return layer;
    });
    if (at !== whole.length) throw new Error(`The file holds ${whole.length} weights, its layers take ${at}: export the net again.`);
    for (const [what, { length }] of [["scales", scales], ["biases", biases]]) {
      if (length !== channel) throw new Error(`The file holds ${length} ${what}, its layers take ${channel}: export the net again.`);
    }
    const net = { ...data, layers };
    delete net.weights;
    net.grid = lastMap(net, data.size[0], data.size[1]);
    refuseMisfit(net);
    return net;
  }

  return { decode };
});
