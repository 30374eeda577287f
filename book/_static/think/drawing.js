/* Drawing on a canvas: pictures and feature maps as pixels, frames and dots that show on any ground. */
"use strict";

(() => {
  const { h, clip } = vggThink;

  /** A small canvas of one pixel a pixel; `fill` writes the i-th one's red, green and blue into the bytes from `at` on. */
  function pixels(width, height, fill) {
    const canvas = h("canvas", { width, height });
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      fill(image.data, 4 * i, i);
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** A picture, RGB planes of 0..255, as such a canvas. */
  function bitmap({ h: height, w: width, data }) {
    return pixels(width, height, (bytes, at, i) => {
      for (let c = 0; c < 3; c++) bytes[at + c] = data[c * height * width + i];
    });
  }

  /** Values row by row in grey, black at 0, white at `top`. */
  function greys(values, width, height, top) {
    return pixels(width, height, (bytes, at, i) => {
      bytes.fill(clip((255 * values[i]) / (top || 1), 0, 255), at, at + 3);
    });
  }

  /** A square canvas made ready to draw in CSS pixels, with as many dots as the screen shows: its pen and its side. */
  function fresh(canvas) {
    const side = canvas.clientWidth || 256;
    const dots = Math.round(side * Math.min(3, window.devicePixelRatio || 1));
    canvas.width = dots;
    canvas.height = dots;
    const pen = canvas.getContext("2d");
    pen.scale(dots / side, dots / side);
    pen.imageSmoothingEnabled = false;
    return { pen, side };
  }

  /** A frame that shows on any ground: white inside black. */
  function frame(pen, left, top, width, height) {
    for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(left, top, width, height);
    }
  }

  /** The frame of a square that lies on the picture: its middle and half its side in units of the picture's. */
  function frameSquare(pen, side, { x, y, half }) {
    frame(pen, (x - half) * side, (y - half) * side, 2 * half * side, 2 * half * side);
  }

  /** A frame round a part of the picture, its edges in CSS pixels; at the border the whole line shows. */
  function frameWithin(pen, side, edges) {
    const [left, top, right, bottom] = edges.map((edge) => clip(edge, 2, side - 2));
    frame(pen, left, top, right - left, bottom - top);
  }

  /** A dot that shows on any ground. */
  function dot(pen, x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.strokeStyle = "#000";
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  Object.assign(vggThink, { bitmap, greys, fresh, frame, frameSquare, frameWithin, dot });
})();
