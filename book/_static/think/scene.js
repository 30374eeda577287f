/* Pictures of the procedural set, drawn in the page from the same numbers as src/vggbook/data (a test compares the pixels).
 *
 * A scene is what tools/think.py exported: numbers in units of the picture's side. The reader's changes go into a copy of it:
 * the object moved, scaled, turned, with another outline, texture or paint, and strokes laid over the picture.
 */
"use strict";

(() => {
  const clamp = (value) => Math.min(1, Math.max(0, value));

  /** slope * (the coordinate along `angle`) + offset */
  const linear = (angle, x, y, slope, offset) => slope * (Math.cos(angle) * x + Math.sin(angle) * y) + offset;

  /** How much of the pixel at (x, y) a star polygon covers, 0 to 1; s is the picture's side in pixels. */
  function starCover(tables, o, x, y, s) {
    const [corners, rho] = tables.shapes[o.shape];
    const half = Math.PI / corners;
    const edge = Math.atan2(1 - rho * Math.cos(half), rho * Math.sin(half)); // direction of the folded edge's normal
    const c = Math.cos(o.angle) / o.r;
    const k = Math.sin(o.angle) / o.r;
    const px = c * (x - o.x) + k * (y - o.y); // the shape's own plane: outer radius 1, upright
    const py = (c / o.tilt) * (y - o.y) - (k / o.tilt) * (x - o.x);
    const angle = Math.atan2(py, px);
    const folded = Math.abs(angle - Math.round(angle / (2 * half)) * 2 * half);
    const distance = Math.hypot(px, py) * Math.cos(folded - edge) - Math.cos(edge); // in radii
    return clamp(0.5 - distance * o.r * s);
  }

  /** How light the texture is at (x, y), 0 to 1. */
  function textureLight(tables, o, x, y, s) {
    const [a, b, c, d, e] = tables.textures[o.texture];
    const { k } = o; // radians a unit of length
    const u = Math.cos(k * (Math.cos(o.lean) * x + Math.sin(o.lean) * y) + o.u);
    const v = Math.cos(k * (Math.cos(o.lean) * y - Math.sin(o.lean) * x) + o.v);
    return clamp(((v * c + a + u * d) * u + v * b + e) * (s / k) + 0.5);
  }

  function weave(pixel, cover, tables, o, x, y, s) {
    if (!cover) return;
    const light = textureLight(tables, o, x, y, s);
    for (let c = 0; c < 3; c++) {
      pixel[c] = pixel[c] * (1 - cover) + cover * (o.dark[c] + light * (o.light[c] - o.dark[c]));
    }
  }

  /** The scene as RGB planes of 0..255, back to front: ground, waves, bands, plain shapes, the object, light, strokes. */
  function paint(tables, scene, s) {
    const data = new Float32Array(3 * s * s);
    const { ground, light } = scene;
    for (let row = 0; row < s; row++) {
      for (let column = 0; column < s; column++) {
        const x = (column + 0.5) / s;
        const y = (row + 0.5) / s;
        const far = linear(ground.angle, x, y, 0.5, 0.5);
        const pixel = [0, 1, 2].map((c) => ground.near[c] + far * (ground.far[c] - ground.near[c]));
        for (const wave of scene.waves) {
          const swell = Math.cos(linear(wave.angle, x, y, wave.k, wave.phase));
          for (let c = 0; c < 3; c++) pixel[c] += swell * wave.colour[c];
        }
        for (const band of scene.bands) {
          const depth = band.half - Math.abs(linear(band.angle, x - 0.5, y - 0.5, 1, -band.offset));
          weave(pixel, clamp(depth * s + (band.half > 0 ? 0.5 : 0)), tables, band, x - 0.5, y - 0.5, s);
        }
        for (const plain of scene.plain) {
          if (!plain.present) continue;
          const cover = starCover(tables, plain, x, y, s);
          for (let c = 0; c < 3; c++) pixel[c] = pixel[c] * (1 - cover) + cover * plain.colour[c];
        }
        weave(pixel, starCover(tables, scene.object, x, y, s), tables, scene.object, x, y, s);
        const shade = linear(light.angle, x - 0.5, y - 0.5, light.slope, 1) * light.gain * 255;
        for (let c = 0; c < 3; c++) {
          data[(c * s + row) * s + column] = Math.floor(Math.min(255, Math.max(0, pixel[c] * shade + 0.5)));
        }
      }
    }
    const picture = { h: s, w: s, data };
    for (const stroke of scene.strokes || []) cover(picture, stroke);
    return picture;
  }

  /** A square or a disc of one colour over the picture; its place and half width in units of the side. */
  function cover(picture, { x, y, half, round = false, colour }) {
    const { h, w, data } = picture;
    for (let row = 0; row < h; row++) {
      for (let column = 0; column < w; column++) {
        const dx = Math.abs((column + 0.5) / w - x);
        const dy = Math.abs((row + 0.5) / h - y);
        if (round ? Math.hypot(dx, dy) > half : Math.max(dx, dy) > half) continue;
        for (let c = 0; c < 3; c++) data[(c * h + row) * w + column] = colour[c];
      }
    }
    return picture;
  }

  /** A copy of the scene whose object lies, reaches and points as asked; its texture moves and turns with it. */
  function changed(scene, { x, y, size = 1, turn = 0, shape, texture, dark, light }) {
    const old = scene.object;
    const object = {
      ...old, x: x ?? old.x, y: y ?? old.y, r: old.r * size, angle: old.angle + turn, lean: old.lean + turn, k: old.k / size,
      shape: shape ?? old.shape, texture: texture ?? old.texture, dark: dark ?? old.dark, light: light ?? old.light,
    };
    // the phases at the object's centre stay
    const phase = (o) => [
      o.k * (Math.cos(o.lean) * o.x + Math.sin(o.lean) * o.y),
      o.k * (Math.cos(o.lean) * o.y - Math.sin(o.lean) * o.x),
    ];
    const before = phase(old);
    const after = phase(object);
    object.u = old.u + before[0] - after[0];
    object.v = old.v + before[1] - after[1];
    return { ...scene, object };
  }

  const GRID = 64; // points a side, to count areas

  /** Does the object cover this place? */
  const covers = (tables, { object }, x, y) => starCover(tables, object, x, y, GRID) > 0.5;

  /** The share of the object's area that lies in the picture, 0 to 1; what lies over the border is cut off. */
  function inside(tables, { object }) {
    const from = (middle) => Math.floor((middle - object.r) * GRID) - 1;
    const to = (middle) => Math.ceil((middle + object.r) * GRID) + 1;
    const within = (i) => i >= 0 && i < GRID;
    let [whole, seen] = [0, 0];
    for (let row = from(object.y); row < to(object.y); row++) {
      for (let column = from(object.x); column < to(object.x); column++) {
        const area = starCover(tables, object, (column + 0.5) / GRID, (row + 0.5) / GRID, GRID);
        whole += area;
        if (within(row) && within(column)) seen += area;
      }
    }
    return seen / whole;
  }

  window.vggScene = { paint, cover, changed, covers, inside };
})();
