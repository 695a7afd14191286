// Colour maps that the colour-blind can read (matplotlib's, 17 colours each, linear between), and how bands are painted.

const STOPS = {
  inferno: "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4",
  viridis: "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
  cividis: "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838",
  grey: "000000 ffffff",
};
export const RAMPS = Object.keys(STOPS);
const TABLES = {};

export function table(name) {
  if (TABLES[name]) return TABLES[name];
  const stops = STOPS[name].split(" ").map(hex => [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16)));
  const made = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2), f = at - k;
    for (let c = 0; c < 3; c++) made[3 * i + c] = Math.round(stops[k][c] * (1 - f) + stops[k + 1][c] * f);
  }
  return (TABLES[name] = made);
}

// Each painter takes the planes of a tile by name and writes RGBA pixels; `count` are the pixels.
export const scalar = (band, look, hides) => (planes, pixels, count) => {
  const values = planes[band], colours = table(look.ramp), scale = 255 / (look.high - look.low || 1);
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (Number.isNaN(value) || hides?.(planes, i)) continue;
    const k = 3 * Math.max(0, Math.min(255, Math.round((value - look.low) * scale)));
    pixels[4 * i] = colours[k]; pixels[4 * i + 1] = colours[k + 1]; pixels[4 * i + 2] = colours[k + 2];
    pixels[4 * i + 3] = 255;
  }
};

export const colour = (planes, pixels, count) => {
  const values = planes.colour;
  for (let i = 0; i < count; i++) {
    const packed = values[i];
    if (Number.isNaN(packed)) continue;
    pixels[4 * i] = packed >> 16; pixels[4 * i + 1] = packed >> 8 & 255; pixels[4 * i + 2] = packed & 255;
    pixels[4 * i + 3] = 255;
  }
};

const SOURCES = [[0, 0, 0, 0], [120, 130, 140, 255], [230, 140, 20, 255]];
export const source = (planes, pixels, count) => {
  for (let i = 0; i < count; i++) pixels.set(SOURCES[planes.source[i]] ?? SOURCES[0], 4 * i);
};

export const water = look => (planes, pixels, count) => {
  const side = Math.sqrt(count), values = planes.probability;
  for (let i = 0; i < count; i++) {
    if (!(values[i] >= look.threshold)) continue;
    const shore = !(values[i - 1] >= look.threshold) || !(values[i + 1] >= look.threshold) ||
      !(values[i - side] >= look.threshold) || !(values[i + side] >= look.threshold);
    pixels.set(shore ? [255, 60, 190, 255] : [20, 120, 255, 150], 4 * i);
  }
};

// What became of the water between two dates: 1 water on both, 2 gained, 3 lost.
export const CHANGES = { 1: [20, 90, 170, 170], 2: [0, 190, 120, 255], 3: [225, 90, 30, 255] };
export const change = (planes, pixels, count) => {
  for (let i = 0; i < count; i++) if (CHANGES[planes.change[i]]) pixels.set(CHANGES[planes.change[i]], 4 * i);
};

// Stripes: they are seen on every colour map.
export const missing = (planes, pixels, count) => {
  const side = Math.sqrt(count);
  for (let i = 0; i < count; i++) {
    if (!(planes.mask[i] > 0)) continue;
    const stripe = (i % side + Math.floor(i / side)) % 4 < 2;
    pixels.set(stripe ? [0, 229, 255, 220] : [0, 0, 0, 110], 4 * i);
  }
};
