/* "See it think": numbers, bounded, compared, and as the page writes them.
 *
 * think.js says what each file of this folder does. They share one object, vggThink, because a page that is opened from disk may not
 * import modules. It begins here.
 */
"use strict";

window.vggThink = (() => {
  const clip = (value, low, high) => Math.min(high, Math.max(low, value));

  /** The index of the largest number: of a posterior, the class that the net says. */
  const best = (numbers) => numbers.indexOf(Math.max(...numbers));

  /** A minus sign as wide as a plus. */
  const minus = (text) => text.replace("-", "\u2212");

  const number = (value) => minus(value.toLocaleString("en-US", { maximumFractionDigits: 3 }));
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const wholePercent = (share) => `${Math.round(100 * share)} %`;
  const squared = (rows, columns) => `${rows} \u00d7 ${columns}`;

  function millions(macs) {
    const digits = macs < 1e8 ? 1 : 0;
    return `${(macs / 1e6).toLocaleString("en-US", { maximumFractionDigits: digits })} million multiply-adds`;
  }

  return { clip, best, minus, number, percent, wholePercent, squared, millions };
})();
