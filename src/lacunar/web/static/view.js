// The canvas at the right: float32 tiles in pixel space, coloured in the browser; hover and swipe need no request.

import { planes as fetchPlanes } from "./api.js";

const KEPT = 400; // tiles in memory
const cache = new Map();

function tilePlanes(layer, z, x, y) {
  const { id, bands, version } = layer;
  const key = `${id}/${bands}/${z}/${x}/${y}/${version ?? ""}`;
  if (!cache.has(key)) {
    if (cache.size >= KEPT) cache.delete(cache.keys().next().value);
    const entry = { planes: null };
    entry.ready = fetchPlanes(id, bands.join(","), z, x, y, version).then(values => {
      const size = values.length / bands.length;
      entry.planes = Object.fromEntries(bands.map((band, i) => [band, values.subarray(i * size, (i + 1) * size)]));
      return entry.planes;
    });
    entry.ready.catch(() => cache.delete(key));
    cache.set(key, entry);
  }
  return cache.get(key);
}

const Raw = L.GridLayer.extend({
  initialize(layer, options) {
    L.GridLayer.prototype.initialize.call(this, options);
    this.layer = layer;
  },
  createTile(coords, done) {
    const canvas = L.DomUtil.create("canvas");
    canvas.width = canvas.height = 256;
    tilePlanes(this.layer, coords.z, coords.x, coords.y).ready.then(
      planes => { canvas.planes = planes; paint(canvas, this.layer.paint); done(null, canvas); },
      error => done(error, canvas));
    return canvas;
  },
  repaint() {
    for (const { el } of Object.values(this._tiles)) if (el.planes) paint(el, this.layer.paint);
  },
});

function paint(canvas, painter) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  painter(canvas.planes, image.data, canvas.width * canvas.height);
  context.putImageData(image, 0, 0);
}

export class View {
  constructor(element) {
    this.element = element;
    this.layers = {};
    this.swipe = null;
  }

  // Show a raster of which `info` tells size and levels; all layers go.
  open(info) {
    this.map?.remove();
    this.layers = {};
    this.info = info;
    const scale = 2 ** -info.levels, [rows, cols] = info.shape;
    const crs = L.Util.extend({}, L.CRS.Simple, { transformation: new L.Transformation(scale, 0, scale, 0) });
    this.map = L.map(this.element, {
      crs, minZoom: -2, maxZoom: info.levels + 6, zoomSnap: 0.25, attributionControl: false, zoomAnimation: false, fadeAnimation: false,
      maxBounds: [[-rows, -cols], [2 * rows, 2 * cols]], doubleClickZoom: false, keyboard: false,
    });
    for (const [name, order] of [["before", 210], ["after", 220], ["mask", 230], ["suspect", 240]]) this.map.createPane(name).style.zIndex = order;
    this.bounds = L.latLngBounds([[0, 0], [rows, cols]]);
    this.map.fitBounds(this.bounds);
    this.map.on("move zoom resize", () => this.clip());
  }

  // Put a layer {id, bands, paint, info, version} into a pane, or take it away (null).
  set(pane, layer) {
    this.layers[pane]?.shown?.remove();
    delete this.layers[pane];
    if (!layer) return;
    if (layer.info.origin) layer.shown = this.#part(layer, pane);
    else {
      layer.shown = new Raw(layer, {
        pane, tileSize: 256, minNativeZoom: 0, maxNativeZoom: layer.info.levels, minZoom: -2, maxZoom: layer.info.levels + 6,
        bounds: this.bounds, noWrap: true, keepBuffer: 1,
      }).on("load", () => this.loaded?.()).addTo(this.map);
    }
    this.layers[pane] = layer;
    this.clip();
  }

  // A picture of the whole image, such as a sample.
  setPicture(pane, url) {
    this.layers[pane]?.shown?.remove();
    this.layers[pane] = { picture: true, shown: L.imageOverlay(url, this.bounds, { pane }).addTo(this.map) };
    this.clip();
  }

  // A preview: one tile that lies anywhere.
  #part(layer, pane) {
    const [row, col] = layer.info.origin, [height, width] = layer.info.shape;
    const group = L.layerGroup().addTo(this.map), canvas = document.createElement("canvas");
    canvas.width = canvas.height = 256;
    group.repaint = () => {
      if (!canvas.planes) return;
      paint(canvas, layer.paint);
      const cut = document.createElement("canvas");
      cut.width = width; cut.height = height;
      cut.getContext("2d").drawImage(canvas, 0, 0);
      group.clearLayers();
      group.addLayer(L.imageOverlay(cut.toDataURL(), [[row, col], [row + height, col + width]], { pane }));
    };
    tilePlanes(layer, 0, 0, 0).ready.then(planes => { canvas.planes = planes; group.repaint(); });
    return group;
  }

  repaint() {
    for (const layer of Object.values(this.layers)) layer.shown?.repaint?.();
  }

  // Show the pane `after` right of a share of the width, the mask left of it; null shows all of both.
  clip(share = this.swipe) {
    this.swipe = share;
    if (!this.map) return;
    const size = this.map.getSize();
    const part = (left, right) => {
      const from = this.map.containerPointToLayerPoint([size.x * left, 0]), to = this.map.containerPointToLayerPoint([size.x * right, size.y]);
      return `polygon(${from.x}px ${from.y}px, ${to.x}px ${from.y}px, ${to.x}px ${to.y}px, ${from.x}px ${to.y}px)`;
    };
    this.map.getPane("after").style.clipPath = share === null ? "" : part(share, 1);
    this.map.getPane("mask").style.clipPath = share === null || !this.layers.after ? "" : part(0, share);
  }

  // Row and column (not rounded) under the pointer.
  place(event) {
    const { lat, lng } = this.map.mouseEventToLatLng(event);
    return [lat, lng];
  }

  // The values of a pane at a pixel, from tiles in memory; null where there are none.
  values(pane, row, col) {
    const layer = this.layers[pane];
    if (!layer?.bands) return null;
    const [top, left] = layer.info.origin ?? [0, 0], [rows, cols] = layer.info.shape;
    const r = row - top, c = col - left;
    if (r < 0 || c < 0 || r >= rows || c >= cols) return null;
    const levels = layer.info.levels, z = layer.info.origin ? 0 : Math.max(0, Math.min(levels, Math.round(this.map.getZoom())));
    const step = 2 ** (levels - z), side = 256 * step;
    const x = Math.floor(c / side), y = Math.floor(r / side);
    const planes = tilePlanes(layer, z, x, y).planes;
    if (!planes) return null;
    const at = Math.floor((r - y * side) / step) * 256 + Math.floor((c - x * side) / step);
    return Object.fromEntries(layer.bands.map(band => [band, planes[band][at]]));
  }

  // Finite values of a band in the tiles that are shown, some of them.
  seen(pane, band) {
    const shown = this.layers[pane]?.shown, found = [];
    for (const { el } of Object.values(shown?._tiles ?? {})) {
      const values = el.planes?.[band] ?? [];
      for (let i = 0; i < values.length; i += 5) if (!Number.isNaN(values[i])) found.push(values[i]);
    }
    return found;
  }

  // The window of at most 256 x 256 pixels in the middle of what is seen.
  window() {
    const { lat, lng } = this.map.getCenter(), [rows, cols] = this.info.shape;
    const height = Math.min(256, rows), width = Math.min(256, cols);
    const clamp = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
    return [clamp(lat - height / 2, rows - height), clamp(lng - width / 2, cols - width), height, width];
  }

  lonlat(row, col) {
    const grid = this.info.lonlat;
    if (!grid) return null;
    const n = grid.length - 1, v = row / this.info.shape[0] * n, u = col / this.info.shape[1] * n;
    const i = Math.max(0, Math.min(n - 1, Math.floor(v))), j = Math.max(0, Math.min(n - 1, Math.floor(u)));
    const mix = k => (grid[i][j][k] * (1 - (u - j)) + grid[i][j + 1][k] * (u - j)) * (1 - (v - i)) +
      (grid[i + 1][j][k] * (1 - (u - j)) + grid[i + 1][j + 1][k] * (u - j)) * (v - i);
    return [mix(0), mix(1)];
  }
}
