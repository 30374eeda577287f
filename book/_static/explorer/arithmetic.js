/* The explorer's arithmetic, without a page: a configuration layer by layer, and a stack of kernels against a single one.
 * Tested against src/vggbook in a browser. kit.js, the views (network, stack, connections, testing, memory) read it as
 * window.vggExplorer.
 */
(() => {
  "use strict";
  const LIMIT = { side: 2048, channels: 4096, layers: 12 };
  const configNamed = (name) => window.vggConfigs.find((config) => config.name === name);

  /** The field one layer further: size grows by (kernel - 1) jumps, and only the stride changes the jump. */
  const grow = (field, kernel, stride = 1, pad = 0) => ({
    size: field.size + (kernel - 1) * field.jump,
    jump: field.jump * stride,
    start: field.start + ((kernel - 1) / 2 - pad) * field.jump,
  });

  /** Output side of a pooling layer, rounded down or up; a window that would start outside the map is dropped. */
  function pooled(side, { kernel, stride, ceil }) {
    if (!ceil) return Math.floor((side - kernel) / stride) + 1;
    const out = Math.ceil((side - kernel) / stride) + 1;
    return (out - 1) * stride >= side ? out - 1 : out;
  }

  /** A whole number from low to high, or an Error with the reason; `what` names it. */
  function whole(value, what, low, high, why = "") {
    const text = String(value).trim();
    if (text === "") throw new RangeError(`${what} is empty: give a whole number from ${low} to ${high}.`);
    const number = Number(text);
    const refused = (reason) => new RangeError(`${what} is ${text}: ${reason}. Allowed: whole numbers from ${low} to ${high}.`);
    if (!Number.isInteger(number)) throw refused("only a whole number makes sense");
    if (number < low) throw refused(why || `at least ${low} is needed`);
    if (number > high) throw refused(`the drawing stops at ${high}`);
    return number;
  }

  /** All layers of a configuration for one square image: name, kind, shape, params, macs, bytes, field. */
  function trace(name, imageSide = 224, { classes = 1000, batchNorm = false, bytesPerValue = 4 } = {}) {
    const config = configNamed(name);
    if (!config) throw new RangeError(`unknown configuration ${name}`);
    let side = whole(imageSide, "The input size", config.smallest, LIMIT.side,
      `nothing is left after the last pooling of ${name}; at least ${config.smallest} pixels a side are needed`);
    const rows = [];
    let channels = 3;
    let field = { size: 1, jump: 1, start: 0.5 };
    const push = (layer, kind, shape, params = 0, macs = 0) => rows.push({
      name: layer, kind, shape, params, macs, field,
      bytes: shape.reduce((a, b) => a * b, 1) * bytesPerValue,
    });
    for (const layer of config.layers) {
      if (layer.kind === "conv") {
        side = Math.floor((side + 2 * layer.pad - layer.kernel) / layer.stride) + 1;
        field = grow(field, layer.kernel, layer.stride, layer.pad);
        const weights = layer.kernel ** 2 * (channels / layer.groups) * layer.channels;
        channels = layer.channels;
        push(layer.name, "conv", [channels, side, side], weights + channels, weights * side * side);
        if (batchNorm) push(layer.name.replace("conv", "bn"), "bn", [channels, side, side], 2 * channels);
      } else {
        if (layer.kind === "pool") {
          side = pooled(side, layer);
          field = grow(field, layer.kernel, layer.stride);
        }
        push(layer.name, layer.kind, [channels, side, side]);
      }
    }
    field = { ...grow(field, side), jump: field.jump }; // the first FC layer is a convolution over the whole last map
    let features = channels * side * side;
    for (const { name: layer, width } of config.fc) {
      const out = width ?? classes;
      push(layer, "fc", [out], features * out + out, features * out);
      features = out;
    }
    return rows;
  }

  const total = (rows, key) => rows.reduce((sum, row) => sum + row[key], 0);

  /** The square of the input that unit (row, column) of a layer sees; edges in pixels, of which `inside` lies on the picture. */
  function window_(row, imageSide, i = 0, j = 0) {
    const left = row.field.start - row.field.size / 2;
    const [top, lft] = [left + i * row.field.jump, left + j * row.field.jump];
    const span = (from) => Math.max(0, Math.min(imageSide, from + row.field.size) - Math.max(0, from));
    return { top, left: lft, size: row.field.size, inside: span(top) * span(lft) };
  }

  /** A stack of convolutions (numbers: kernel sides) and 2x2 poolings ("pool") with C channels, and the single convolution that
   *  has the same receptive field, stride, input and output. Weights without biases unless `biases`; all padded to keep the map. */
  function stack(layers, { channels = 64, inputs = channels, side = 56, biases = false } = {}) {
    const C = whole(channels, "Channels", 1, LIMIT.channels);
    const cin = whole(inputs, "Input channels", 1, LIMIT.channels);
    let map = whole(side, "The map's side", 1, LIMIT.side);
    if (layers.length > LIMIT.layers) throw new RangeError(`The drawing stops at ${LIMIT.layers} layers; remove one first.`);
    let field = { size: 1, jump: 1, start: 0.5 };
    let depth = cin;
    const rows = layers.map((layer, index) => {
      const kernel = layer === "pool" ? 2 : layer;
      if (layer === "pool" && map < 2) {
        throw new RangeError(`Layer ${index + 1} would pool a map of side 1: enlarge the map or remove a pooling.`);
      }
      field = grow(field, kernel, layer === "pool" ? 2 : 1);
      if (layer === "pool") map = Math.floor(map / 2);
      const weights = layer === "pool" ? 0 : kernel ** 2 * depth * C;
      if (layer !== "pool") depth = C;
      return { layer, kernel, side: map, size: field.size, jump: field.jump, macs: weights * map ** 2,
        weights: weights + (biases && layer !== "pool" ? C : 0) };
    });
    const single = field.size ** 2 * cin * depth;
    return {
      rows, size: field.size, jump: field.jump, side: map, outputs: depth,
      convs: layers.filter((layer) => layer !== "pool").length,
      weights: total(rows, "weights"), macs: total(rows, "macs"),
      single: { kernel: field.size, stride: field.jump, weights: single + (biases ? depth : 0), macs: single * map ** 2 },
    };
  }

  window.vggExplorer = { trace, stack, window: window_, total, grow, whole, LIMIT };
})();
