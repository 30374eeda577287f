/* How a net answers about a picture: dense evaluation, the centre crop, fifty crops (Sect. 3.2). */
"use strict";

vggEngine.parts.push(function protocols({ forward, cost }) {
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

  return { ask, centreCrop, dense, crops, positions, mean };
});
