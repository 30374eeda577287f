/* A trained net in the page. Its parts are the files reading.js, shapes.js, forward.js, protocols.js and unit.js, each a function that
 * takes what the parts before it gave and needs nothing else from outside: so their text can become a worker also where a page is
 * opened from disk.
 *
 * Maps are Float32Arrays (channels, height, width); pictures are RGB planes of 0..255. A test in a browser compares every number with
 * PyTorch's.
 */
"use strict";

function vggEngine(parts = vggEngine.parts) {
  return parts.reduce((engine, part) => ({ ...engine, ...part(engine) }), {});
}

vggEngine.parts = []; // each file adds its own
