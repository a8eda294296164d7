"use strict";

/** Arithmetic on pixels. An image is an ImageData; all of it is opaque. */

/** |first − second| × gain in each channel, cut off at 255. */
function difference(first, second, gain) {
  const out = new ImageData(first.width, first.height);
  const [a, b, d] = [first.data, second.data, out.data];
  for (let i = 0; i < d.length; i++) {
    d[i] = i % 4 === 3 ? 255 : gain * Math.abs(a[i] - b[i]);
  }
  return out;
}

/** Mean and maximum of |first − second| over all colour channels. */
function distance(first, second) {
  const [a, b] = [first.data, second.data];
  let sum = 0;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i] - b[i]);
    sum += d;
    if (d > largest) largest = d;
  }
  return { mean: sum / (a.length * 0.75), largest };
}

/** Y of full-range BT.601, as one plane of floats. */
function luma({ width, height, data }) {
  const y = new Float32Array(width * height);
  for (let i = 0; i < y.length; i++) {
    y[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  }
  return y;
}

/**
 * One level of the Haar lifting of the luma: the low band is the mean of two neighbours, the high
 * band the later less the earlier; odd sides are filled up with their last row or column.
 *
 * The first letter of a band is the direction from top to bottom: HL holds horizontal edges.
 */
function haar(image) {
  const y = luma(image);
  const width = Math.ceil(image.width / 2);
  const height = Math.ceil(image.height / 2);
  const [LL, LH, HL, HH] = [0, 1, 2, 3].map(() => new Float32Array(width * height));
  for (let row = 0; row < height; row++) {
    const top = 2 * row * image.width;
    const bottom = Math.min(2 * row + 1, image.height - 1) * image.width;
    for (let column = 0; column < width; column++) {
      const left = 2 * column;
      const right = Math.min(left + 1, image.width - 1);
      const [a, b, c, d] = [y[top + left], y[top + right], y[bottom + left], y[bottom + right]];
      const i = row * width + column;
      LL[i] = (a + b + c + d) / 4;
      LH[i] = (b - a + d - c) / 2;
      HL[i] = (c + d - a - b) / 2;
      HH[i] = d - c - b + a;
    }
  }
  return { width, height, LL, LH, HL, HH };
}

/** A band as grey levels, offset + scale × value. */
function gray(band, width, height, offset, scale) {
  const out = new ImageData(width, height);
  for (let i = 0; i < band.length; i++) {
    const value = offset + scale * band[i];
    out.data.set([value, value, value, 255], 4 * i);
  }
  return out;
}
