/* Sizes without computing a picture: of maps, of receptive fields (Sect. 2.3), and of the work. */
"use strict";

vggEngine.parts.push(function shapes() {
  /** As PyTorch rounds: with `ceil` up, but the last window begins inside. */
  function pooledSide(side, layer) {
    if (!layer.ceil) return Math.floor((side - layer.kernel) / layer.stride) + 1;
    const out = Math.ceil((side - layer.kernel) / layer.stride) + 1;
    return (out - 1) * layer.stride >= side ? out - 1 : out;
  }

  /** A side of the map above. */
  function nextSide(side, layer) {
    if (layer.kind === "conv") return Math.floor((side + 2 * layer.pad - layer.kernel) / layer.stride) + 1;
    return layer.kind === "pool" ? pooledSide(side, layer) : side;
  }

  /** Height and width of the last map before the FC layers. */
  function lastMap(net, height, width) {
    const body = net.layers.filter((layer) => layer.kind !== "fc");
    return [body.reduce(nextSide, height), body.reduce(nextSide, width)];
  }

  /** Size, jump and first edge of the receptive field of a layer's units, in pixels (Sect. 2.3). */
  function field(net, name) {
    let found = { size: 1, jump: 1, left: 0 };
    for (const layer of net.layers) {
      const { kernel = 1, stride = 1, pad = 0 } = layer === firstFc(net) ? { kernel: net.grid[0] } : layer;
      found = { size: found.size + (kernel - 1) * found.jump, left: found.left - pad * found.jump, jump: found.jump * stride };
      if (layer.name === name) return found;
    }
    throw new Error(`no layer ${name}`);
  }

  const firstFc = (net) => net.layers.find((layer) => layer.kind === "fc");

  /** Multiply-adds of one dense evaluation of a picture. */
  function cost(net, height, width) {
    let [h, w] = [height, width];
    let macs = 0;
    for (const layer of net.layers.filter(({ kind }) => kind !== "fc")) {
      [h, w] = [nextSide(h, layer), nextSide(w, layer)];
      if (layer.kind === "conv") macs += layer.weight.length * h * w;
    }
    const positions = (h - net.grid[0] + 1) * (w - net.grid[1] + 1);
    for (const { weight } of net.layers.filter(({ kind }) => kind === "fc")) macs += positions * weight.length;
    return macs;
  }

  return { nextSide, lastMap, field, firstFc, cost };
});
