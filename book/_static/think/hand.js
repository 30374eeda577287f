/* The hand on the picture, a pointer or the arrow keys: it moves the object, a brush, or what a view has laid on the picture. */
"use strict";

(() => {
  const { h, arrow, clip, frameSquare, BRUSH } = vggThink;

  class Hand {
    constructor(instrument) {
      this.instrument = instrument;
      this.painting = false;
      this.brush = { x: 0.5, y: 0.5 };
      this.grip = null; // while something is dragged: its middle, seen from the pointer
      this.caption = h("figcaption", {});
      this.canvas = h("canvas", {
        tabindex: 0, class: "think-picture", role: "application", "aria-label": "the picture",
        onpointerdown: (event) => this.taken(event),
        onpointermove: (event) => this.pointed(event),
        onpointerup: () => this.released(),
        onpointercancel: () => this.released(),
        onkeydown: (event) => this.pressed(event),
      });
    }

    /** What the hand moves: its middle, how far it reaches from there, whether it lies under a place, and what moves it. */
    held() {
      return this.instrument.view.held() ?? (this.painting ? this.heldBrush() : this.heldObject());
    }

    heldObject() {
      const { scene } = this.instrument;
      const { x, y, r } = scene.object();
      return {
        x, y, reach: r, under: (at) => scene.covers(at),
        move: (to) => {
          scene.edit(to);
          this.instrument.edited();
        },
        caption: "Drag the object, also over the border, or move it with the arrow keys.",
        keys: "move it",
      };
    }

    heldBrush() {
      return {
        ...this.brush, reach: 0, under: () => false,
        move: (to) => {
          this.brush = to;
          this.instrument.scene.stroke(to);
          this.instrument.edited();
        },
        draw: (pen, side) => frameSquare(pen, side, { ...this.brush, half: BRUSH }),
        caption: "Drag over the picture to draw; the arrow keys draw too.",
        keys: "draw",
      };
    }

    takeBrush(painting) {
      this.painting = painting;
      this.tell();
      this.instrument.draw();
    }

    /** A place under the pointer in units of the picture's side; beyond the border it is below 0 or above 1. */
    place(event) {
      const box = this.canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    }

    /** What is taken keeps its place under the hand; a press beside it brings its middle there. */
    taken(event) {
      if (event.button !== 0) return; // the other buttons open menus
      event.preventDefault();
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus();
      const at = this.place(event);
      const held = this.held();
      this.grip = held.under(at) ? { x: held.x - at.x, y: held.y - at.y } : { x: 0, y: 0 };
      this.dragged(at);
    }

    pointed(event) {
      const at = this.place(event);
      if (this.grip) this.dragged(at);
      else if (event.pointerType === "mouse") this.instrument.view.pointedAt(at);
    }

    dragged(at) {
      this.move({ x: at.x + this.grip.x, y: at.y + this.grip.y });
    }

    released() {
      this.grip = null;
    }

    pressed(event) {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const { x, y } = this.held();
      this.move({ x: x + step[0] / 32, y: y + step[1] / 32 });
    }

    /** Move what is held; it may leave the picture until it is just out of sight. */
    move({ x, y }) {
      const { reach, move } = this.held();
      move({ x: clip(x, -reach, 1 + reach), y: clip(y, -reach, 1 + reach) });
    }

    /** What the hand does to the picture. */
    tell() {
      this.caption.textContent = this.held().caption;
    }

    draw(pen, side) {
      this.held().draw?.(pen, side);
    }
  }

  Object.assign(vggThink, { Hand });
})();
