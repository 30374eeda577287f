/* The fold "Change the picture": which scene, and what is changed of its object. */
"use strict";

(() => {
  const { h, field, sliding, minus, wholePercent } = vggThink;
  const radians = (degrees) => (degrees * Math.PI) / 180;

  class SceneControls {
    constructor(instrument) {
      this.instrument = instrument;
      this.scene = instrument.scene;
      const { shapeNames, textureNames } = this.scene.tables;
      const edit = (part) => {
        this.scene.edit(part);
        instrument.edited();
      };
      const repaint = (hue) => {
        this.scene.repaint(hue);
        instrument.edited();
      };
      const degrees = (value) => minus(`${value}\u00b0`);
      const hue = (value) => (this.scene.edits.light ? `hue ${value}\u00b0` : "its own");
      this.size = sliding("Size", { min: 0.4, max: 1.6, step: 0.05, value: 1 }, wholePercent, (size) => edit({ size }));
      this.turn = sliding("Turn", { min: -180, max: 180, step: 5, value: 0 }, degrees, (value) => edit({ turn: radians(value) }));
      this.shape = this.choice("Outline", shapeNames, (shape) => edit({ shape }));
      this.texture = this.choice("Texture", textureNames, (texture) => edit({ texture }));
      this.paint = sliding("Paint", { min: 0, max: 360, step: 5, value: 0 }, hue, repaint);
      this.node = this.fold();
      this.show();
    }

    /** A list of outlines or textures; those that no class of the net names stand apart. */
    choice(text, names, onchange) {
      const { net } = this.instrument;
      const options = names.map((name, value) => h("option", { value }, name));
      const named = (option) => net.classes.some((name) => name.split("-").includes(option.textContent));
      const known = options.filter((option) => !this.instrument.ofTheSet() || named(option));
      const strange = options.filter((option) => !known.includes(option));
      const control = h("select", { onchange: () => onchange(Number(control.value)) },
        known,
        strange.length ? h("optgroup", { label: "not among the classes" }, strange) : null);
      return { control, node: field(text, control) };
    }

    /** Open where there is room. */
    fold() {
      const { scene, instrument } = this;
      const { scenes, classes } = scene.tables;
      const options = scenes.map(({ label }, value) =>
        h("option", { value, selected: value === scene.index }, `${value + 1}: ${classes[label]}`));
      const picture = h("select", { "data-long": "", onchange: () => this.reset(Number(picture.value)) }, options);
      const painting = h("input", {
        type: "checkbox", checked: instrument.hand.painting,
        onchange: () => instrument.hand.takeBrush(painting.checked),
      });
      return h("details", { class: "think-change", open: window.matchMedia("(min-width: 600px)").matches },
        h("summary", {}, "Change the picture"),
        h("fieldset", {},
          h("legend", { class: "think-quiet" }, "The picture"),
          field("Picture", picture),
          this.size.node, this.turn.node, this.shape.node, this.texture.node, this.paint.node,
          h("div", { class: "think-field" },
            h("label", {}, painting, " draw over it"),
            h("button", { type: "button", onclick: () => this.reset(scene.index) }, "As it was"))));
    }

    /** A scene as it was. */
    reset(index) {
      this.scene.reset(index);
      this.show();
      this.instrument.edited();
    }

    /** The controls show the scene's edits. */
    show() {
      const { size = 1, turn = 0, hue = 0 } = this.scene.edits;
      const { shape, texture } = this.scene.object();
      this.size.control.value = size;
      this.turn.control.value = Math.round((turn * 180) / Math.PI);
      this.paint.control.value = hue;
      this.shape.control.value = shape;
      this.texture.control.value = texture;
      for (const slider of [this.size, this.turn, this.paint]) slider.tell();
    }
  }

  Object.assign(vggThink, { SceneControls });
})();
