// The shell: three jobs, four steps, one canvas.

import { address, get, loadWords, make, number, post, put, remove, speak, spoken, t, watch, call } from "./api.js";
import { RAMPS, change, colour, missing, scalar, source, table, water } from "./colours.js";
import { Drawing } from "./mask.js";
import { results } from "./results.js";
import { Suspects } from "./suspects.js";
import { View } from "./view.js";

const $ = id => document.getElementById(id);
const view = new View($("map"));
export const state = {
  kind: "fill", id: null, info: null, models: [], presets: [], references: new Set(), jobs: new Map(), result: null, layer: "before",
  looks: {}, most_sigma: Infinity, threshold: 0.5, maskVersion: 0, chosen: {},
};
const drawing = new Drawing(view, { changed: maskChanged, measured: points => results.measure(points), picked: point => suspects.pick(point) });
const KELVIN = 273.15;

// --- messages ---

export function say(text, bad = false) {
  $("message").textContent = text ?? "";
  $("message").hidden = !text;
  $("message").classList.toggle("bad", bad);
}

export const tried = act => async (...given) => {
  try { await act(...given); } catch (error) { say(error.message, true); }
};

const suspects = new Suspects({ view, drawing, say, tried, shown: () => showTools() });

// --- 1 input ---

// A raster once it is open.
async function opened(told) {
  say(t("opening", told.name));
  while (told.state === "opening") {
    await new Promise(done => setTimeout(done, 250));
    told = await get(`rasters/${told.id}`);
    if (told.total > 1) say(`${t("opening", told.name)} ${Math.round(100 * told.done / told.total)} %`);
  }
  if (told.state === "failed") throw new Error(told.error);
  say("");
  await listRasters();
  return told;
}

const openRaster = tried(async told => useRaster(await opened(told)));

// Another date, which does not take the place of what is shown.
async function addReference(told) {
  const other = await opened(told);
  if (other.id === state.id) return;
  if (!other.jobs.includes(state.kind)) throw new Error(t("no_reference", other.name));
  state.references.add(other.id);
  showOptions();
}

const DRAGGED = "application/x-lacunar"; // a path of the list of files, dragged
async function addDropped(data) {
  const path = data.getData(DRAGGED), files = [...data.files];
  if (path) await addReference(await post("rasters", { path }));
  await addFiles(files);
}
async function addFiles(files) {
  for (const file of files) {
    say(t("uploading", file.name));
    await addReference(await call("POST", `uploads?name=${encodeURIComponent(file.name)}`, file));
  }
}

const upload = tried(async file => {
  say(t("uploading", file.name));
  await openRaster(await call("POST", `uploads?name=${encodeURIComponent(file.name)}`, file));
});

async function listRasters() {
  state.rasters = (await get("rasters")).filter(one => one.state === "ready");
  $("open-row").hidden = !state.rasters.length;
  $("rasters").replaceChildren(...state.rasters.map(one => make("option", { value: one.id, textContent: one.name, selected: one.id === state.id })));
}

const listFiles = tried(async under => {
  const told = await get(`files?under=${encodeURIComponent(under)}`);
  $("browser").hidden = told.root === null;
  if (told.root === null) return;
  const parts = told.under ? told.under.split("/") : [];
  const crumb = (name, path) => make("button", { textContent: name, onclick: () => listFiles(path) });
  $("crumbs").replaceChildren(crumb(told.root, ""), ...parts.flatMap((part, i) => [" / ", crumb(part, parts.slice(0, i + 1).join("/"))]));
  const act = one => one.kind === "folder" ? () => listFiles(one.path) : tried(async () => openRaster(await post("rasters", { path: one.path })));
  const name = one => `${one.kind === "folder" ? "▸ " : one.kind === "product" ? "◆ " : ""}${one.name}`;
  const dragged = one => event => event.dataTransfer.setData(DRAGGED, one.path);
  $("files").replaceChildren(...told.entries.map(one => make("li", {}, make("button", {
    textContent: name(one), onclick: act(one), draggable: one.kind !== "folder", ondragstart: one.kind === "folder" ? null : dragged(one) }))));
});

async function useRaster(info) {
  state.id = info.id;
  state.info = info;
  state.result = null;
  state.references.delete(info.id);
  $("rasters").value = info.id;
  $("welcome").hidden = true;
  $("hover").textContent = "";
  const about = [`${info.shape[1]} × ${info.shape[0]}`, info.crs, info.date, ...info.notes].filter(Boolean);
  $("about").textContent = about.join(" · ");
  showBands();
  view.open(info);
  view.map.on("moveend", () => requestAnimationFrame(drawScale));
  await drawing.open(info.id);
  await suspects.open(info.id, info.jobs.includes("fill") && info.units.value === "K");
  const fits = kind => info.jobs.includes(kind);
  useKind(info.kind === "picture" && fits("picture") ? "picture" : fits(state.kind) ? state.kind : ["fill", "water", "picture"].find(fits));
  await listJobs();
}

function showBands() {
  const { band, bands_of_file: names } = state.info;
  $("band-row").hidden = !(names?.length > 1);
  $("band").replaceChildren(make("option", { value: "", textContent: "–" }), ...(names ?? []).map((name, i) => make("option", { value: i + 1, textContent: `${i + 1} ${name}` })));
  $("band").value = band ?? "";
}

// --- jobs in one shell ---

function useKind(kind) {
  state.kind = kind;
  const info = state.info;
  for (const tab of document.querySelectorAll("[data-job]")) {
    tab.setAttribute("aria-selected", tab.dataset.job === kind);
    tab.disabled = Boolean(info) && !info.jobs.includes(tab.dataset.job);
  }
  if (!info) return;
  for (const id of ["step-options", "step-run", "legend"]) $(id).hidden = false;
  $("step-missing").hidden = kind === "water";
  $("preview").hidden = kind === "picture";
  drawing.use("pan");
  state.result = null;
  $("hover").textContent = "";
  $("result").hidden = true;
  showClasses();
  showOptions();
  showLayer("before");
  showTools();
  for (const job of state.jobs.values()) showJob(job);
}

// --- 2 what is missing ---

function showClasses() {
  const edits = drawing.edits, shares = state.info.classes;
  $("classes").replaceChildren(...Object.entries(shares).map(([name, share]) => {
    const box = make("input", { type: "checkbox", checked: edits.classes.includes(name), onchange: () => {
      const classes = Object.keys(shares).filter(one => one === name ? box.checked : drawing.edits.classes.includes(one));
      drawing.apply({ classes });
    } });
    return make("label", {}, box, t(`class_${name}`), make("output", { textContent: `${number(100 * share, 1)} %` }));
  }));
  $("grow").value = edits.grow;
}

function maskChanged(told) {
  if (told.error) return say(told.error.message, true);
  $("share").textContent = `${told.exact ? "" : "≈ "}${number(100 * told.share, 1)} %`;
  $("save-mask").href = address(`rasters/${state.id}/mask`);
  state.maskVersion += 1;
  showClasses();
  showTools();
  showMask();
  suspects.repaint();
  askCommand();
}

function showMask() {
  const drawn = state.kind !== "water" && !(state.result && state.layer !== "before" && view.swipe === null);
  view.set("mask", drawn ? { id: state.id, bands: ["mask"], paint: missing, info: state.info, version: state.maskVersion } : null);
}

function showTools() {
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === drawing.tool);
  $("radius").value = drawing.radius;
  $("radius-value").textContent = `${drawing.radius} px`;
  $("undo").disabled = !drawing.canUndo;
  $("redo").disabled = !drawing.canRedo;
}

function useTool(tool) {
  drawing.use(tool);
  showTools();
  if (tool !== "pan" && tool !== "measure" && state.layer !== "before") showLayer("before");
}

// --- 3 options ---

function field(name, input, help) {
  input.id = `option-${name}`;
  input.addEventListener("change", () => { state.chosen[`${state.kind}/${name}`] = input.type === "checkbox" ? input.checked : input.value; askCommand(); });
  const kept = state.chosen[`${state.kind}/${name}`];
  if (kept !== undefined) input[input.type === "checkbox" ? "checked" : "value"] = kept;
  return make("label", { title: help ?? "" }, make("span", { textContent: t(name) }), input, ...about(name));
}

// The link to what an option means.
const FLAGS = { content: null, keep_samples: "--realisations", references: "--reference" };
function about(name) {
  const flag = name in FLAGS ? FLAGS[name] : `--${name.replaceAll("_", "-")}`;
  const command = { fill: state.info.kind === "product" ? "lst" : "fill", water: "water", picture: "inpaint" }[state.kind];
  if (!flag) return [];
  const link = make("a", { href: `help/${command}#${flag}`, target: "_blank", rel: "noopener", textContent: "?", title: t("about_option", flag), className: "about" });
  link.setAttribute("aria-label", link.title);
  return [link];
}

const choice = (names, usual, label = name => name) => {
  const select = make("select", {}, ...names.map(name => make("option", { value: name, textContent: label(name) })));
  select.value = usual;
  return select;
};
const figure = (value, more = {}) => make("input", { type: "number", value, ...more });
const box = checked => make("input", { type: "checkbox", checked });

function showOptions() {
  const { kind, info } = state, shown = [], hidden = [];
  const presets = choice(state.presets.map(one => one.name), "fast", name => {
    const one = state.presets.find(preset => preset.name === name);
    const bare = kind === "fill" && !state.chosen["fill/model"] && ["fast", "instant"].includes(name);
    return `${name} (${bare ? t("no_network") : t("evaluations", one.evaluations)})`;
  });
  if (kind !== "water") shown.push(field("preset", presets, t("preset_help")));
  if (kind === "picture") shown.push(field("content", choice(["anything", "face"], "anything", t)));
  shown.push(field("samples", figure({ fill: 8, water: 4, picture: 4 }[kind], { min: 1, max: 64 }), t("samples_help")));
  if (kind === "fill") {
    if (info.kind === "product") hidden.push(field("suspect", choice(["report", "fill", "keep"], "report", name => t(`suspect_${name}`))));
    hidden.push(field("keep_samples", box(info.shape[0] * info.shape[1] <= 4e6), t("keep_samples_help")));
  }
  if (kind === "water") {
    hidden.push(field("min_area", figure("", { min: 0, placeholder: "4 px" })));
    if (info.kind === "product") hidden.push(field("keep_clouds", box(false)));
  }
  if (kind !== "picture") {
    const names = state.models.filter(one => one.kind === kind).map(one => one.name);
    const model = choice(kind === "fill" ? ["", ...names] : names, kind === "fill" ? "" : "water-classes", name => name || t("model_by_preset"));
    hidden.push(field("model", model));
    model.addEventListener("change", () => showOptions());
  }
  hidden.push(field("seed", figure(0, { min: 0 })));
  $("options").replaceChildren(...shown);
  $("advanced").replaceChildren(...hidden);
  showReferences();
  askCommand();
}

const others = () => (state.rasters ?? []).filter(one => one.id !== state.id && one.jobs.includes(state.kind));
const references = () => others().map(one => one.id).filter(id => state.references.has(id));

// Other dates: of a fill to guide it, of water to compare. They are dropped here, or chosen among what is open.
function showReferences() {
  const { kind } = state;
  $("references").hidden = kind === "picture";
  $("references").firstElementChild.textContent = t(kind === "water" ? "dates" : "references");
  $("reference-list").replaceChildren(...others().map(other => {
    const input = box(state.references.has(other.id));
    input.onchange = () => { state.references[input.checked ? "add" : "delete"](other.id); showReferences(); askCommand(); };
    return make("label", {}, input, [other.name, other.date].filter(Boolean).join(" · "));
  }));
  $("preview").hidden = kind === "picture" || (kind === "water" && references().length > 0);
}

function asked(window) {
  const value = name => $(`option-${name}`), { kind } = state;
  const instant = value("preset")?.value === "instant";
  const job = { kind, raster: state.id, seed: Number(value("seed").value), samples: instant ? 1 : Number(value("samples").value) };
  if (kind !== "water") job.preset = value("preset").value;
  if (kind === "picture" && value("content").value === "face") job.kind = "face";
  if (kind === "fill") Object.assign(job, { keep_samples: value("keep_samples").checked && !instant && job.samples > 1 && !window, references: references(), suspect: value("suspect")?.value });
  if (kind !== "picture" && value("model").value) job.model = value("model").value;
  if (kind === "water") Object.assign(job, { references: references(), threshold: state.threshold, min_area: value("min_area").value === "" ? undefined : Number(value("min_area").value), keep_clouds: value("keep_clouds")?.checked || undefined });
  if (window) job.window = window;
  return job;
}

let commandTimer;
export function askCommand() {
  clearTimeout(commandTimer);
  commandTimer = setTimeout(async () => {
    if (!state.info || !$("option-seed")) return;
    try { $("command").textContent = (await post("command", asked())).command; } catch (error) { $("command").textContent = error.message; }
  }, 200);
}

// --- 4 preview and run ---

const submit = tried(async window => {
  say("");
  await drawing.busy;
  const job = await post("jobs", asked(window));
  state.wanted = job.id;
  follow(job);
});

function follow(job) {
  showJob(job);
  if (["queued", "running"].includes(job.state)) watch(job.id, showJob);
}

async function listJobs() {
  $("jobs").replaceChildren();
  state.jobs.clear();
  for (const job of (await get("jobs")).reverse()) if (job.raster === state.id) follow(job);
}

function showJob(job) {
  if (job.raster !== state.id) return;
  state.jobs.set(job.id, job);
  const active = ["queued", "running"].includes(job.state);
  const title = `${t(job.kind === "fill" ? "temperature" : job.kind === "face" ? "face" : job.kind)}${job.window ? ` · ${t("preview")}` : ""}`;
  const left = job.seconds_left ? ` · ${t("left", Math.ceil(job.seconds_left))}` : job.ahead > 1 ? ` · ${t("ahead", job.ahead - 1)}` : "";
  const there = $(`job-${job.id}`), said = `${title}: ${t(`state_${job.state}`)}${left}`;
  if (active && there?.dataset.state === job.state) { // its Cancel button stays the same, so that a click is not lost
    there.firstChild.textContent = said;
    if (job.total) Object.assign(there.querySelector("progress"), { max: job.total, value: job.done });
    return;
  }
  const act = (key, does) => make("button", { textContent: t(key), onclick: tried(does) });
  const buttons = active ? [act("cancel", () => remove(`jobs/${job.id}`).then(showJob))]
    : job.state === "done" ? [act("show", () => showResult(job)), act("delete", () => remove(`jobs/${job.id}`).then(listJobs))]
    : [act("resume", async () => { state.wanted = job.id; follow(await post(`jobs/${job.id}/resume`)); }), act("delete", () => remove(`jobs/${job.id}`).then(listJobs))];
  const item = make("li", { id: `job-${job.id}`, className: state.result?.id === job.id ? "shown" : "" },
    make("div", {}, said),
    ...(active ? [make("progress", job.total ? { max: job.total, value: job.done } : {})] : []),
    ...(job.error ? [make("div", { className: "error", textContent: job.error })] : []),
    make("div", { className: "row" }, ...buttons));
  item.dataset.state = job.state;
  if (there) there.replaceWith(item); else $("jobs").prepend(item);
  if (job.state === "done" && state.wanted === job.id) {
    state.wanted = null;
    showResult(job);
  }
}

function showResult(job) {
  const kind = job.kind === "face" ? "picture" : job.kind;
  if (kind !== state.kind) useKind(kind);
  state.result = job;
  for (const one of document.querySelectorAll("#jobs li")) one.classList.toggle("shown", one.id === `job-${job.id}`);
  if (kind === "water") state.threshold = job.options.threshold;
  results.show(job);
  showLayer(compares(job) ? "change" : { fill: "value", water: "water", picture: "sample" }[kind]);
  if (job.view?.origin) {
    const [row, col] = job.view.origin, [height, width] = job.view.shape;
    if (!view.map.getBounds().contains([[row, col], [row + height, col + width]])) view.map.fitBounds([[row, col], [row + height, col + width]]);
  }
}

// --- layers, legend, hover ---

export const compares = job => job?.kind === "water" && job.references.length > 0;

const baseBand = () => state.kind === "fill" || !state.info.bands.includes("colour") ? "value" : "colour";

function look(band) {
  const info = state.result?.view && band !== "before" ? state.result.view : state.info;
  const name = band === "before" ? "value" : band, key = name === "value" ? "value" : name;
  if (!state.looks[`${state.id}/${key}`]) {
    const [low, high] = name === "probability" ? [0, 1] : info.range[name] ?? [0, 1];
    state.looks[`${state.id}/${key}`] = { low, high, least: low - (high - low) / 4, most: high + (high - low) / 4, ramp: name === "value" ? "inferno" : name === "sigma" || name === "disagreement" ? "viridis" : "cividis" };
  }
  return state.looks[`${state.id}/${key}`];
}

export function showLayer(name) {
  state.layer = name;
  const { result, info } = state, layers = ["before"];
  if (result?.kind === "fill") layers.push("value", "sigma", "source");
  if (compares(result)) layers.push("change");
  else if (result?.kind === "water") layers.push("water", "probability", "disagreement");
  if (result && !result.view) layers.push("sample");
  $("layers").replaceChildren(...layers.map(one => make("button", { textContent: t(`layer_${one}`), onclick: () => showLayer(one) })));
  [...$("layers").children].forEach((button, i) => button.setAttribute("aria-pressed", layers[i] === name));
  if (result) $("layers").append(make("button", { id: "swipe-button", textContent: t("swipe"), onclick: () => toggleSwipe() }));
  $("swipe-button")?.setAttribute("aria-pressed", view.swipe !== null);
  if (!result && view.swipe !== null) toggleSwipe(false);
  const base = baseBand(), bands = base === "value" ? ["value", "flags"] : ["colour"];
  view.set("before", { id: info.id, bands, info, paint: base === "value" ? scalar("value", look("before")) : colour });
  if (name === "sample") view.setPicture("after", results.sample());
  else if (name === "before") view.set("after", null);
  else {
    const told = result.kind === "fill" ? ["value", "source", "sigma"] : compares(result) ? ["change"] : ["probability", "disagreement"];
    const unsure = (planes, i) => planes.source[i] === 2 && planes.sigma[i] > state.most_sigma;
    const painter = name === "source" ? source : name === "water" ? water(state) : name === "change" ? change
      : scalar(name, look(name), result.kind === "fill" ? unsure : undefined);
    view.set("after", { id: result.id, bands: told, info: result.view, paint: painter });
  }
  showMask();
  drawScale();
}

export const repaint = () => { view.repaint(); drawScale(); };

const scaled = () => state.layer === "before" ? (baseBand() === "value" ? "value" : null) : ["value", "sigma", "probability", "disagreement"].includes(state.layer) ? state.layer : null;
const units = () => (state.result?.view ?? state.info).units?.value ?? "";
const inCelsius = band => band === "value" && units() === "K";
const told = (band, value) => band === "value" ? `${number(inCelsius(band) ? value - KELVIN : value)} ${inCelsius(band) ? "°C" : units()}`.trim() : number(value) + (band === "sigma" && units() ? ` ${units()}` : "");

function drawScale() {
  const band = state.info && scaled();
  $("scale").hidden = !band;
  if (!band) return;
  const now = look(band), span = now.most - now.least, place = value => 1000 * (value - now.least) / span;
  $("low").value = place(now.low);
  $("high").value = place(now.high);
  $("low-text").textContent = told(band, now.low);
  $("high-text").textContent = told(band, now.high);
  $("ramp").value = now.ramp;
  const colours = table(now.ramp), bar = $("bar").getContext("2d"), graph = $("histogram").getContext("2d");
  for (let x = 0; x < 256; x++) {
    const k = 3 * Math.max(0, Math.min(255, Math.round(255 * (now.least + x / 255 * span - now.low) / (now.high - now.low || 1))));
    bar.fillStyle = `rgb(${colours[k]},${colours[k + 1]},${colours[k + 2]})`;
    bar.fillRect(x, 0, 1, 10);
  }
  const counts = new Array(64).fill(0);
  for (const value of view.seen(state.layer === "before" ? "before" : "after", band)) {
    const bin = Math.floor(64 * (value - now.least) / span);
    if (bin >= 0 && bin < 64) counts[bin] += 1;
  }
  const most = Math.max(1, ...counts);
  graph.clearRect(0, 0, 256, 32);
  graph.fillStyle = getComputedStyle(document.body).color;
  counts.forEach((count, i) => graph.fillRect(4 * i, 32 - 32 * count / most, 3, 32 * count / most));
}

function drag(end) {
  const band = scaled(), now = look(band), value = now.least + $(end).value / 1000 * (now.most - now.least);
  const gap = (now.most - now.least) / 200;
  now[end] = end === "low" ? Math.min(value, now.high - gap) : Math.max(value, now.low + gap);
  repaint();
}

function toggleSwipe(on = view.swipe === null) {
  $("swipe").hidden = !on;
  view.clip(on ? $("swipe").value / 1000 : null);
  $("swipe-button")?.setAttribute("aria-pressed", on);
  if (state.info) showMask();
}

function hover(event) {
  if (!view.map || !state.info) return;
  const [r, c] = view.place(event), row = Math.floor(r), col = Math.floor(c);
  if (row < 0 || col < 0 || row >= state.info.shape[0] || col >= state.info.shape[1]) { $("hover").textContent = ""; return; }
  const parts = [], after = state.layer === "before" ? null : view.values("after", row, col), before = view.values("before", row, col);
  if (after?.source > 0) {
    const sigma = after.source === 2 ? ` ± ${number(after.sigma)}` : "";
    parts.push(`${told("value", after.value)}${sigma}`, t(after.source === 2 ? "filled" : "measured"));
  } else if (after && "change" in after && !Number.isNaN(after.change)) {
    parts.push(t(["is_land", "change_both", "change_gained", "change_lost"][after.change]));
  } else if (after && "probability" in after && !Number.isNaN(after.probability)) {
    parts.push(`${t("layer_probability")} ${number(after.probability)}`, t(after.probability >= state.threshold ? "is_water" : "is_land"));
  } else if (before && "value" in before && !Number.isNaN(before.value)) {
    parts.push(told("value", before.value));
    const names = ["dilated_cloud", "cirrus", "cloud", "cloud_shadow", "snow", "water"];
    parts.push(...names.filter((_, bit) => before.flags >> bit & 1).map(name => t(`class_${name}`)));
  } else if (before && "colour" in before) parts.push(`RGB ${before.colour >> 16}, ${before.colour >> 8 & 255}, ${before.colour & 255}`);
  parts.push(t("row_col", row, col));
  const place = view.lonlat(r, c);
  if (place) parts.push(`(${place[0].toFixed(5)}, ${place[1].toFixed(5)})`);
  $("hover").textContent = parts.join(", ");
}

// --- keys and wiring ---

function keys(event) {
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range") return;
  const command = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (command && key === "z") { drawing.step(event.shiftKey ? 1 : -1); event.preventDefault(); }
  else if (command && key === "y") { drawing.step(1); event.preventDefault(); }
  else if (command || event.altKey || !state.info) return;
  else if (key === "[" || key === "]") { drawing.radius = Math.max(1, Math.min(100, drawing.radius + (key === "]" ? 2 : -2))); showTools(); }
  else if (key === "b" && state.kind !== "water") useTool("brush");
  else if (key === "e" && state.kind !== "water") useTool("erase");
  else if (key === "p" && state.kind !== "water") useTool("polygon");
  else if (key === "s" && state.result) toggleSwipe();
  else if (key === " " && event.target.tagName !== "BUTTON" && !event.repeat) { state.before_space = drawing.tool; useTool("pan"); event.preventDefault(); }
  else drawing.key(event.key);
}

function wire() {
  for (const tab of document.querySelectorAll("[data-job]")) tab.onclick = () => useKind(tab.dataset.job);
  for (const button of document.querySelectorAll("[data-demo]")) button.onclick = tried(async () => openRaster(await post("rasters", { demo: button.dataset.demo })));
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => useTool(button.dataset.tool);
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => $("file").files[0] && upload($("file").files[0]);
  $("drop").ondragover = event => { event.preventDefault(); $("drop").classList.add("over"); };
  $("drop").ondragleave = () => $("drop").classList.remove("over");
  $("drop").ondrop = event => { event.preventDefault(); $("drop").classList.remove("over"); if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]); };
  $("rasters").onchange = tried(() => useRaster(state.rasters.find(one => one.id === $("rasters").value)));
  $("grow").onchange = () => drawing.apply({ grow: Math.max(0, Math.min(200, Math.round(Number($("grow").value)))) });
  $("radius").oninput = () => { drawing.radius = Number($("radius").value); showTools(); };
  $("undo").onclick = () => drawing.step(-1);
  $("redo").onclick = () => drawing.step(1);
  $("import-mask").onclick = () => $("mask-file").click();
  $("mask-file").onchange = tried(async () => {
    const file = $("mask-file").files[0];
    if (!file) return;
    await call("POST", `rasters/${state.id}/mask?name=${encodeURIComponent(file.name)}`, file);
    await drawing.open(state.id);
  });
  $("band").onchange = tried(async () => $("band").value && openRaster(await post("rasters", { raster: state.id, band: Number($("band").value) })));
  const zone = $("references");
  zone.ondragover = event => { event.preventDefault(); zone.classList.add("over"); };
  zone.ondragleave = event => { if (!zone.contains(event.relatedTarget)) zone.classList.remove("over"); };
  zone.ondrop = tried(async event => { event.preventDefault(); zone.classList.remove("over"); await addDropped(event.dataTransfer); });
  $("add-reference").onclick = () => $("reference-file").click();
  $("reference-file").onchange = tried(() => addFiles([...$("reference-file").files]));
  $("preview").onclick = () => submit(view.window());
  $("run").onclick = () => submit(null);
  $("copy").onclick = () => navigator.clipboard.writeText($("command").textContent);
  $("ramp").replaceChildren(...RAMPS.map(name => make("option", { value: name, textContent: name })));
  $("ramp").onchange = () => { look(scaled()).ramp = $("ramp").value; repaint(); };
  $("low").oninput = () => drag("low");
  $("high").oninput = () => drag("high");
  $("swipe").oninput = () => view.clip($("swipe").value / 1000);
  $("map").addEventListener("pointermove", hover);
  document.addEventListener("keydown", keys);
  document.addEventListener("keyup", event => { if (event.key === " " && state.before_space) { useTool(state.before_space); state.before_space = null; } });
  $("language").onchange = () => { speak($("language").value); if (state.info) { useKind(state.kind); } };
  const theme = name => { document.documentElement.dataset.theme = name; localStorage.setItem("theme", name); };
  theme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  $("theme").onclick = () => { theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); if (state.info) drawScale(); };
  view.loaded = drawScale;
  results.wire({ state, view, drawing, showLayer, repaint, useTool, askCommand, tried, say });
}

async function begin() {
  history.replaceState(null, "", location.pathname); // the token leaves the address; a cookie holds it
  await loadWords();
  $("language").value = spoken();
  wire();
  useKind("fill");
  [state.models, state.presets] = await Promise.all([get("models"), get("presets")]);
  await Promise.all([listFiles(""), listRasters()]);
}

begin().catch(error => say(error.message, true));
