/* The picture that the reader makes: a scene of the set, with what was changed of its object and strokes laid over it. */
"use strict";

(() => {
  const { vggScene } = window;
  const GREY = [128, 128, 128];
  const BRUSH = 0.05; // half its width, in units of the picture's side

  class EditedScene {
    constructor(tables, index) {
      this.tables = tables;
      this.reset(index);
    }

    /** A scene of the set as it was. */
    reset(index) {
      this.index = index;
      this.edits = {};
      this.strokes = [];
    }

    edit(part) {
      Object.assign(this.edits, part);
    }

    /** The texture's two colours in a hue, in degrees. */
    repaint(hue) {
      const light = [0, 1, 2].map((c) => 0.5 + 0.4 * Math.cos((hue * Math.PI) / 180 - (c * 2 * Math.PI) / 3));
      this.edit({ hue, light, dark: light.map((value) => value - 0.35) });
    }

    stroke({ x, y }) {
      this.strokes.push({ x, y, half: BRUSH, round: true, colour: GREY });
    }

    /** The scene with the reader's edits. */
    scene() {
      return vggScene.changed(this.tables.scenes[this.index], this.edits);
    }

    object() {
      return this.scene().object;
    }

    covers({ x, y }) {
      return vggScene.covers(this.tables, this.scene(), x, y);
    }

    /** The share of the object's area that lies in the picture. */
    inside() {
      return vggScene.inside(this.tables, this.scene());
    }

    /** The picture's pixels; `extra` are strokes that are none of the reader's. */
    paint(side, extra = []) {
      return vggScene.paint(this.tables, { ...this.scene(), strokes: [...this.strokes, ...extra] }, side);
    }

    /** Outline and texture of the object, by name. */
    names() {
      const { shape, texture } = this.object();
      return { shape: this.tables.shapeNames[shape], texture: this.tables.textureNames[texture] };
    }

    /** The object as a class would be called. */
    className() {
      const { shape, texture } = this.names();
      return `${shape}-${texture}`;
    }

    /** The picture in words. */
    described() {
      const { shape, texture } = this.names();
      const { x, y } = this.object();
      const place = `${Math.round(100 * x)} % from the left and ${Math.round(100 * y)} % from the top`;
      return `Picture of a ${shape} with ${texture}, centre at ${place}.`;
    }
  }

  Object.assign(vggThink, { GREY, BRUSH, EditedScene });
})();
