/* What a view is: one way to look at the net, that the instrument shows among its tabs. layers.js, occlusion.js and testing.js hold one
 * each, and a page loads those that it shows. This is the view that adds nothing.
 */
"use strict";

(() => {
  /** Made anew for each net; the instrument lays it out each time it is shown. */
  class View {
    constructor(instrument) {
      this.instrument = instrument;
      this.net = instrument.net;
      this.side = this.net.size[0]; // of the picture that the view asks for, in pixels
    }

    /** A question to the worker about this view's net. */
    ask(task, given, step) {
      return vggThink.ask(task, { net: this.net.name, ...given }, step);
    }

    /** Elements: what the view asks of the reader, what stands beside the picture, below both, and below the answer. */
    lay() {
      return { asked: [], beside: [], below: [], panel: [] };
    }

    /** Strokes that the view lays over the picture. */
    strokes() {
      return [];
    }

    /** What the hand moves in this view, where that is neither the object nor the brush. */
    held() {
      return null;
    }

    /** Ask the net about a picture and show what it says. */
    async answer() {}

    /** The picture as this view shows it. */
    shown(picture) {
      return picture;
    }

    /** Draw over the picture. */
    draw() {}

    // -- what happens
    edited() {} // the scene was changed
    pointedAt() {} // the mouse points at a place of the picture
    escaped() {} // the Escape key was pressed
    resized() {}
  }

  const views = {}; // by the name that a page gives: data-view="layers"
  Object.assign(vggThink, { View, views });
})();
