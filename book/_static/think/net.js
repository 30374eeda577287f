/* A trained net in the page: all activations of a picture, one unit's sum, dense scores, crops.
 *
 * vggEngine is one function that needs nothing from outside, so that its text can become a worker also where a page is opened from
 * disk. Maps are Float32Arrays (channels, height, width); pictures are RGB planes of 0..255. The exported files come from
 * src/vggbook/book/export.py, and the numbers are tested against PyTorch in a browser.
 */
"use strict";

function vggEngine() {
  const FORMAT = "vggbook net 1";

  // ---- reading a file ------------------------------------------------------------------------------------------------

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
    conv: ["in", "out", "kernel", "stride", "pad", "groups"], pool: ["kernel", "stride"], lrn: ["size", "k", "alpha", "beta"], fc: ["in", "out"],
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

  // ---- shapes --------------------------------------------------------------------------------------------------------

  function pooledSide(side, layer) {
    if (!layer.ceil) return Math.floor((side - layer.kernel) / layer.stride) + 1;
    const out = Math.ceil((side - layer.kernel) / layer.stride) + 1;
    return (out - 1) * layer.stride >= side ? out - 1 : out;
  }

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
      const first = layer.kind === "fc";
      const kernel = first ? (layer.name === firstFc(net).name ? net.grid[0] : 1) : layer.kernel || 1;
      const pad = layer.pad || 0;
      found = { size: found.size + (kernel - 1) * found.jump, left: found.left - pad * found.jump, jump: found.jump * (layer.stride || 1) };
      if (layer.name === name) return found;
    }
    throw new Error(`no layer ${name}`);
  }

  const firstFc = (net) => net.layers.find((layer) => layer.kind === "fc");

  /** Multiply-adds of one dense evaluation of a picture. */
  function cost(net, height, width) {
    let [h, w] = [height, width];
    let macs = 0;
    for (const layer of net.layers.filter((each) => each.kind !== "fc")) {
      [h, w] = [nextSide(h, layer), nextSide(w, layer)];
      if (layer.kind === "conv") macs += layer.weight.length * h * w;
    }
    const positions = (h - net.grid[0] + 1) * (w - net.grid[1] + 1);
    return macs + positions * net.layers.filter((layer) => layer.kind === "fc").reduce((sum, layer) => sum + layer.weight.length, 0);
  }

  // ---- layers --------------------------------------------------------------------------------------------------------

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
    const h = pooledSide(map.h, layer);
    const w = pooledSide(map.w, layer);
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

  // ---- answers -------------------------------------------------------------------------------------------------------

  function softmax(scores) {
    const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = Array.from(scores, (score) => Math.exp(score - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  /** The posterior at every position of a score map: an array of arrays, row by row. */
  function positions(map) {
    const found = [];
    for (let i = 0; i < map.h * map.w; i++) {
      found.push(softmax(Array.from({ length: map.c }, (_, c) => map.data[c * map.h * map.w + i])));
    }
    return found;
  }

  const mean = (posteriors) => posteriors[0].map((_, c) => posteriors.reduce((sum, p) => sum + p[c], 0) / posteriors.length);

  function cropped(picture, top, left, height, width, mirrored = false) {
    const data = new Float32Array(3 * height * width);
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const from = mirrored ? left + width - 1 - x : left + x;
          data[(c * height + y) * width + x] = picture.data[(c * picture.h + top + y) * picture.w + from];
        }
      }
    }
    return { h: height, w: width, data };
  }

  const ask = (net, picture) => mean(positions(forward(net, picture).pop()));

  function centreCrop(net, picture) {
    const [h, w] = net.size;
    return ask(net, cropped(picture, Math.floor((picture.h - h) / 2), Math.floor((picture.w - w) / 2), h, w));
  }

  /** Dense evaluation (Sect. 3.2), with the mirrored picture where `flip`. */
  function dense(net, picture, flip = false) {
    const map = forward(net, picture).pop();
    const each = positions(map);
    const found = { rows: map.h, columns: map.w, positions: each, posterior: mean(each), macs: cost(net, picture.h, picture.w) };
    if (!flip) return found;
    const other = ask(net, cropped(picture, 0, 0, picture.h, picture.w, true));
    return { ...found, posterior: mean([found.posterior, other]), macs: 2 * found.macs };
  }

  /** The mean over 5 x 5 crops and their mirror images (Sect. 3.2); `step` hears how far it is. */
  function crops(net, picture, step = () => {}) {
    const [h, w] = net.size;
    // Python rounds halves to the even neighbour
    const even = (value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));
    const along = (space) => [0, 1, 2, 3, 4].map((i) => even((space * i) / 4));
    const found = [];
    for (const top of along(picture.h - h)) {
      for (const left of along(picture.w - w)) {
        for (const mirrored of [false, true]) found.push(ask(net, cropped(picture, top, left, h, w, mirrored)));
        step(found.length / 50);
      }
    }
    return { posterior: mean(found), macs: 50 * cost(net, h, w) };
  }

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

  return { decode, forward, dense, crops, centreCrop, ask, unit, field, cost, positions, mean };
}
