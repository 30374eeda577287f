/* The forward pass: all activations of a picture, layer by layer. */
"use strict";

vggEngine.parts.push(function forwardPass({ nextSide, firstFc }) {
  /** The picture as the net takes it: (pixel - mean) / std in each channel. */
  function prepare(net, picture) {
    const { data, h, w } = picture;
    const out = new Float32Array(3 * h * w);
    for (let c = 0; c < 3; c++) {
      const to = net.bgr ? 2 - c : c;
      for (let i = 0; i < h * w; i++) out[to * h * w + i] = (data[c * h * w + i] - net.mean[c]) / net.std[c];
    }
    return { c: 3, h, w, data: out };
  }

  function padded(map, pad) {
    if (!pad) return map;
    const [h, w] = [map.h + 2 * pad, map.w + 2 * pad];
    const data = new Float32Array(map.c * h * w);
    for (let c = 0; c < map.c; c++) {
      for (let y = 0; y < map.h; y++) {
        const from = (c * map.h + y) * map.w;
        data.set(map.data.subarray(from, from + map.w), (c * h + y + pad) * w + pad);
      }
    }
    return { c: map.c, h, w, data };
  }

  /** Convolution without ReLU: one input plane and one tap at a time, added to a whole output row. */
  function conv(map, layer) {
    const { kernel, stride, out, groups } = layer;
    const source = padded(map, layer.pad);
    const h = nextSide(map.h, layer);
    const w = nextSide(map.w, layer);
    const data = new Float32Array(out * h * w);
    const inputs = layer.in / groups;
    const outputs = out / groups;
    const row = new Float64Array(w);
    for (let o = 0; o < out; o++) {
      const firstInput = Math.floor(o / outputs) * inputs;
      for (let y = 0; y < h; y++) {
        row.fill(layer.bias[o]);
        for (let i = 0; i < inputs; i++) {
          for (let ky = 0; ky < kernel; ky++) {
            const line = ((firstInput + i) * source.h + y * stride + ky) * source.w;
            const tap = ((o * inputs + i) * kernel + ky) * kernel;
            if (kernel === 3 && stride === 1) {
              const a = layer.weight[tap];
              const b = layer.weight[tap + 1];
              const c = layer.weight[tap + 2];
              for (let x = 0; x < w; x++) {
                row[x] += a * source.data[line + x] + b * source.data[line + x + 1] + c * source.data[line + x + 2];
              }
            } else {
              for (let kx = 0; kx < kernel; kx++) {
                const weight = layer.weight[tap + kx];
                for (let x = 0; x < w; x++) row[x] += weight * source.data[line + x * stride + kx];
              }
            }
          }
        }
        data.set(row, (o * h + y) * w);
      }
    }
    return { c: out, h, w, data };
  }

  function relu(map) {
    for (let i = 0; i < map.data.length; i++) if (map.data[i] < 0) map.data[i] = 0;
    return map;
  }

  function pool(map, layer) {
    const h = nextSide(map.h, layer);
    const w = nextSide(map.w, layer);
    const data = new Float32Array(map.c * h * w);
    for (let c = 0; c < map.c; c++) {
      for (let y = 0; y < h; y++) {
        for (let x = 0; x < w; x++) {
          let best = -Infinity;
          for (let v = y * layer.stride; v < Math.min(map.h, y * layer.stride + layer.kernel); v++) {
            for (let u = x * layer.stride; u < Math.min(map.w, x * layer.stride + layer.kernel); u++) {
              best = Math.max(best, map.data[(c * map.h + v) * map.w + u]);
            }
          }
          data[(c * h + y) * w + x] = best;
        }
      }
    }
    return { c: map.c, h, w, data };
  }

  function lrn(map, layer) {
    const data = new Float32Array(map.data.length);
    const plane = map.h * map.w;
    const before = Math.floor(layer.size / 2);
    for (let c = 0; c < map.c; c++) {
      for (let i = 0; i < plane; i++) {
        let sum = 0;
        for (let n = Math.max(0, c - before); n < Math.min(map.c, c - before + layer.size); n++) sum += map.data[n * plane + i] ** 2;
        data[c * plane + i] = map.data[c * plane + i] / (layer.k + layer.alpha * sum) ** layer.beta;
      }
    }
    return { c: map.c, h: map.h, w: map.w, data };
  }

  /** An FC layer at every position: the first one is a convolution over the whole last map of the crop (Sect. 3.2). */
  function fc(map, layer, grid) {
    const h = map.h - grid[0] + 1;
    const w = map.w - grid[1] + 1;
    const data = new Float32Array(layer.out * h * w);
    const inputs = new Float32Array(layer.in);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        let n = 0;
        for (let c = 0; c < map.c; c++) {
          for (let v = 0; v < grid[0]; v++) {
            for (let u = 0; u < grid[1]; u++) inputs[n++] = map.data[(c * map.h + y + v) * map.w + x + u];
          }
        }
        for (let o = 0; o < layer.out; o++) {
          let sum = layer.bias[o];
          for (let i = 0; i < layer.in; i++) sum += layer.weight[o * layer.in + i] * inputs[i];
          data[(o * h + y) * w + x] = sum;
        }
      }
    }
    return { c: layer.out, h, w, data };
  }

  /** All maps of a picture at least as large as the crop; the last one holds the class scores of every position. */
  function forward(net, picture) {
    if (picture.h < net.size[0] || picture.w < net.size[1]) {
      throw new Error(`The picture has ${picture.h} x ${picture.w} pixels; this net needs at least ${net.size[0]} x ${net.size[1]}.`);
    }
    const maps = [{ name: "input", kind: "input", ...prepare(net, picture) }];
    const last = net.layers[net.layers.length - 1];
    for (const layer of net.layers) {
      const map = maps[maps.length - 1];
      let next;
      if (layer.kind === "conv") next = relu(conv(map, layer));
      else if (layer.kind === "pool") next = pool(map, layer);
      else if (layer.kind === "lrn") next = lrn(map, layer);
      else {
        next = fc(map, layer, layer === firstFc(net) ? net.grid : [1, 1]);
        if (layer !== last) relu(next);
      }
      maps.push({ name: layer.name, kind: layer.kind, ...next });
    }
    return maps;
  }

  return { forward };
});
