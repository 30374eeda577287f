/* How one unit gets its value: the taps, the weights, the bias. */
"use strict";

vggEngine.parts.push(function unitSum({ firstFc }) {
  /** A layer with weights as a convolution: an FC layer is one without padding, the first over the whole last map of the crop, the
   *  others 1 x 1 (Sect. 3.2). */
  function asConvolution(net, layer) {
    if (layer.kind === "conv") return { ...layer, rows: layer.kernel, columns: layer.kernel };
    if (layer.kind !== "fc") throw new Error(`${layer.name} has no weights`);
    const [rows, columns] = layer === firstFc(net) ? net.grid : [1, 1];
    return { ...layer, in: layer.in / (rows * columns), rows, columns, stride: 1, pad: 0, groups: 1 };
  }

  /** How one unit gets its value: bias, and for each input channel the taps, weights and their sum; `columns` taps stand in a row. */
  function unit(net, maps, name, channel, y, x) {
    const index = net.layers.findIndex((layer) => layer.name === name);
    if (index < 0) throw new Error(`no layer ${name}`);
    const layer = asConvolution(net, net.layers[index]);
    const before = maps[index];
    const inputs = layer.in / layer.groups;
    const first = Math.floor(channel / (layer.out / layer.groups)) * inputs;
    const parts = [];
    for (let i = 0; i < inputs; i++) {
      const taps = [];
      let sum = 0;
      for (let ky = 0; ky < layer.rows; ky++) {
        for (let kx = 0; kx < layer.columns; kx++) {
          const v = y * layer.stride + ky - layer.pad;
          const u = x * layer.stride + kx - layer.pad;
          const inside = v >= 0 && u >= 0 && v < before.h && u < before.w;
          const value = inside ? before.data[((first + i) * before.h + v) * before.w + u] : 0;
          const weight = layer.weight[((channel * inputs + i) * layer.rows + ky) * layer.columns + kx];
          taps.push({ value, weight, inside });
          sum += value * weight;
        }
      }
      parts.push({ input: first + i, taps, sum });
    }
    const bias = layer.bias[channel];
    return { bias, parts, columns: layer.columns, sum: parts.reduce((total, part) => total + part.sum, bias) };
  }

  return { unit };
});
