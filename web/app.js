// @ts-check
// The page: a live timeline of events. State comes from the API; the WebSocket tells what is new
// and resumes from its cursor, so nothing is missed while the connection was away.

import { ApiError, Client } from "./client.js";
import { $, element, saying, words } from "./page.js";
import { SceneFeed } from "./scenes.js";
import { ServicePanel } from "./services.js";
import { UnverifiedFeed } from "./unverified.js";

/** @typedef {import("./types").Shown} Shown */
/** @typedef {import("./types").Schemas} Schemas */

const client = new Client();
client.onSignedOut = signIn;
/** @type {Map<string, Shown>} Event id → event as /api/events shows it */
const events = new Map();
/** @type {Map<string, Schemas["CameraAnswer"]>} Camera id → camera */
const cameras = new Map();
/** @type {string | null} Where the next page begins */
let older = null;
/** @type {string | null} How far the live feed has told us */
let cursor = null;
let loading = new AbortController();
/** How far the list may be behind the live feed; what is told meanwhile is put upon it. */
const BEHIND_MS = 10_000;
/** @type {{ at: number, message: import("./types").Message }[]} What was told of events lately */
let lately = [];
let backOff = 1000;
/** @type {WebSocket | null} What tells what is new */
let feed = null;

// --- small helpers --------------------------------------------------------------------------

/**
 * Do something; what goes wrong is said on the page.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T | null>}
 */
async function guarded(work) {
  try {
    const result = await work();
    $("error").hidden = true;
    return result;
  } catch (error) {
    $("error").textContent = `That did not work: ${saying(error)}`;
    $("error").hidden = false;
    return null;
  }
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
/** @param {string} id */
const cameraName = (id) => cameras.get(id)?.name ?? words(id);

/** @param {string} iso */
function moment(iso) {
  return element("time", { dateTime: iso, textContent: clock.format(new Date(iso)) });
}

// --- one event ------------------------------------------------------------------------------

/** @param {Shown} event */
function engine(event) {
  if (event.engine === "rules+model") return `scored by rules, refined by ${event.model}`;
  return `scored by ${event.rules_version ?? "rules"} alone`;
}

/**
 * @param {string} url
 * @param {string} text
 * @param {string} full
 */
function thumbnail(url, text, full) {
  const image = element("img", { alt: text, loading: "lazy" });
  let tries = 0;
  image.addEventListener("error", () => {
    // The push may be faster than the read model that knows the picture.
    if (++tries < 5) setTimeout(() => (image.src = `${url}?`), 400 * tries);
    else image.alt = "The picture is no longer there";
  });
  image.src = url;
  return element("a", { href: full, target: "_blank", rel: "noopener" }, image);
}

/** @param {Shown} event */
function card(event) {
  const links = event.links ?? {};
  const made = element("article", { className: event.risk_level ?? "" });
  made.dataset.id = event.id;
  if (event.reviewed) made.classList.add("reviewed");
  const labels = (event.labels ?? []).join(", ");
  const picture = links.thumbnail
    ? thumbnail(links.thumbnail, `Picture of ${labels || "the event"}`, links.image)
    : element("span");
  const head = element("div", { className: "head" },
    element("strong", { textContent: cameraName(event.camera_id) }),
    element("span", { className: "level", textContent: `${event.risk_level} ${event.risk_score}` }),
    event.started_at ? element("span", { className: "soft" }, moment(event.started_at)) : null,
    labels ? element("span", { className: "soft", textContent: labels }) : null,
    event.late
      ? element("span", { className: "late", textContent: "late",
        title: "Assessed long after its pictures were taken: the detector or another part was away" })
      : null,
    event.alert === false
      ? element("span", { className: "late", textContent: "too old to alert",
        title: "It came longer after its pictures than LATE_ALERT_MAX_AGE_SECONDS" })
      : null,
    event.stage === "fast_path"
      ? element("span", { className: "soft", textContent: "still going on" }) : null);
  const review = element("button", {
    type: "button", textContent: event.reviewed ? "Mark as not reviewed" : "Mark as reviewed",
  });
  review.addEventListener("click", async () => {
    review.disabled = true;
    await guarded(async () => {
      const saved = await client.patch("/api/events/{id}",
        { path: { id: event.id }, body: { reviewed: !event.reviewed } });
      if ("id" in saved) show(saved);
    });
    review.disabled = false;
  });
  const details = element("details", {}, element("summary", { textContent: "Why, and by whom" }));
  details.addEventListener("toggle", () => details.open && explain(event.id, details));
  made.append(picture, element("div", {}, head,
    element("p", { className: "summary", textContent: event.summary ?? "" }),
    element("div", { className: "tools" }, review,
      element("span", { className: "soft", textContent: engine(event) }))), details);
  return made;
}

/**
 * @param {string} id
 * @param {HTMLDetailsElement} details
 */
async function explain(id, details) {
  const event = await guarded(() => client.get("/api/events/{id}", { path: { id } }));
  if (!event) return;
  const rows = event.signals.map((signal) => element("tr", {},
    element("td", { textContent: words(signal.name) }),
    element("td", { textContent: signal.value }),
    element("td", { className: "number", textContent: `${signal.points >= 0 ? "+" : ""}${signal.points}` }),
    element("td", { textContent: signal.why })));
  const signals = element("table", {},
    element("thead", {}, element("tr", {}, ...["Signal", "Found", "Points", "Why"].map(
      (text) => element("th", { scope: "col", textContent: text })))),
    element("tbody", {}, ...rows));
  /** @type {Map<string, typeof event.detections[number]>} One image a picture: its surest one */
  const best = new Map();
  for (const found of event.detections) {
    const known = best.get(found.picture_id);
    if (!known || known.confidence < found.confidence) best.set(found.picture_id, found);
  }
  const strip = element("div", { className: "strip" }, ...[...best.values()].slice(0, 12).map(
    (found) => thumbnail(found.links.image,
      `${found.object_type}, ${Math.round(found.confidence * 100)} % sure`, found.links.image)));
  const detectors = [...new Set(event.detections.map((found) =>
    `${found.model} ${found.model_version}${found.fallback
      ? " (the offline fall-back detector, weaker than RT-DETRv2)" : ""}`))];
  const model = event.engine === "rules+model"
    ? `Score: rules ${event.rule_score}, ${event.model} moved it to ${event.risk_score} `
      + `(it may not go below ${event.floor}; ${event.model_seconds?.toFixed(1)} s).`
    : `Score: ${event.rule_score} by ${event.rules_version}. No language model has looked at this.`;
  details.replaceChildren(...[...details.children].slice(0, 1),
    element("p", { textContent: event.reasoning }), signals,
    ...event.enrichments.map(added).filter((line) => line !== null),
    element("p", { className: "soft", textContent: model }),
    element("p", { className: "soft",
      textContent: `${event.detection_count} detections in ${event.pictures.length} pictures by ${detectors.join("; ")}.` }),
    strip);
}

// What an optional service added, or why not; one that nobody configured is not worth a line.
/** @param {Schemas["EnrichmentAnswer"]} word */
function added(word) {
  if (word.code === "not_configured") return null;
  const by = word.model ? ` (${word.model} ${word.model_version})` : "";
  if (word.status === "not_enriched") {
    return element("p", { className: "soft", textContent: `Not enriched by ${word.service}: ${word.why}` });
  }
  const said = word.caption ?? (word.objects.length
    ? word.objects.map((found) => `${found.label}: ${found.attributes.map(
      (one) => `${words(one.name)} ${one.value}`).join(", ") || "nothing told"}`).join("; ")
    : word.sightings.map((seen) => seen.similarity === null
      ? `${seen.label}: not seen before`
      : `${seen.label}: seen before, ${Math.round(seen.similarity * 100)} % alike (entity ${seen.entity_id})`).join("; "));
  return element("p", { className: "enriched", textContent: `${said}${by}` });
}

// --- the timeline ---------------------------------------------------------------------------

/** @param {Shown} event */
function wanted(event) {
  return (!$("camera").value || event.camera_id === $("camera").value)
    && (!$("level").value || event.risk_level === $("level").value)
    && (!$("open-only").checked || !event.reviewed);
}

/** @param {Shown | undefined} event */
function begin(event) {
  return event?.started_at ?? event?.ended_at ?? "";
}

/** @param {Shown} event */
function show(event, isNew = false) {
  const known = events.get(event.id);
  const merged = { ...known, ...event };
  events.set(event.id, merged);
  const old = document.querySelector(`article[data-id="${CSS.escape(event.id)}"]`);
  const open = old?.querySelector("details")?.open;
  old?.parentElement?.remove();
  if (wanted(merged)) {
    const made = card(merged);
    if (isNew && merged.alert !== false) made.classList.add("new");
    const details = made.querySelector("details");
    if (open && details) details.open = true;
    const after = [...$("timeline").children].find((item) =>
      begin(events.get(item.querySelector("article")?.dataset.id ?? "")) < begin(merged));
    $("timeline").insertBefore(element("li", {}, made), after ?? null);
  }
  $("empty").hidden = $("timeline").childElementCount > 0;
}

/** @param {string | null} from */
async function load(from = null) {
  const level = /** @type {Schemas["EventAnswer"]["risk_level"] | ""} */ ($("level").value);
  const query = {
    limit: 30,
    camera_id: $("camera").value || undefined,
    risk_level: level || undefined,
    reviewed: $("open-only").checked ? false : undefined,
    cursor: from ?? undefined,
  };
  // Only the newest choice of filters counts.
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const since = Date.now() - BEHIND_MS;
  const page = await guarded(() => client.get("/api/events", { query, signal }).catch(
    (error) => { if (signal.aborted) return null; throw error; }));
  if (!page) return;
  if (!from) {
    events.clear();
    $("timeline").replaceChildren();
    unseen.load();
  }
  page.events.forEach((event) => show(event));
  if (!from) lately.filter(({ at }) => at >= since).forEach(({ message }) => tell(message));
  older = page.next_cursor;
  $("older").hidden = !older;
  $("empty").hidden = $("timeline").childElementCount > 0;
}

// --- cameras --------------------------------------------------------------------------------

async function loadCameras() {
  const [known, removed] = await Promise.all(
    [client.get("/api/cameras"), client.get("/api/cameras", { query: { status: "removed" } })]);
  cameras.clear();
  [...removed.cameras, ...known.cameras].forEach((camera) => cameras.set(camera.id, camera));
  const chosen = $("camera").value;
  $("camera").replaceChildren(element("option", { value: "", textContent: "all" }),
    ...known.cameras.map((camera) =>
      element("option", { value: camera.id, textContent: camera.name })));
  $("camera").value = cameras.has(chosen) ? chosen : "";
  const found = known.cameras.filter((camera) => camera.status === "unregistered");
  $("unregistered").hidden = !found.length;
  scenes.load(known.cameras.map((camera) => camera.id));
  $("unregistered").replaceChildren(...found.map(unregistered));
}

/** @param {Schemas["CameraAnswer"]} camera */
function unregistered(camera) {
  const add = element("button", { type: "button", textContent: "Add as a camera" });
  add.addEventListener("click", async () => {
    add.disabled = true;
    const body = { name: camera.name, folder_path: camera.folder_path };
    await guarded(async () => { await client.post("/api/cameras", { body }); await loadCameras(); });
    add.disabled = false;
  });
  return element("div", {}, element("span", {
    textContent: `Pictures arrive in the folder “${camera.folder_path}”, which nobody has registered.`,
  }), add);
}

// --- who looks ------------------------------------------------------------------------------

// A server that asks for keys gets one once; a cookie stands for it from then on.
async function enter() {
  const session = await client.get("/api/session").catch((error) => error);
  if (session instanceof ApiError && session.status === 401) return signIn();
  const known = session instanceof Error ? null : session;
  client.changeToken = known?.csrf_token ?? null;
  scenes.mayAcknowledge = known?.role !== "viewer";
  $("who").hidden = !known?.required;
  $("who-name").textContent = known?.name ?? "";
  $("login").hidden = true;
  return connect();
}

function signIn() {
  client.changeToken = null;
  live("sign in to look", "warn");
  $("who").hidden = true;
  $("login").hidden = false;
  $("key").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await client.post("/api/session", { body: { api_key: $("key").value } });
    $("refused").textContent = "";
    $("key").value = "";
    await enter();
  } catch (error) {
    $("refused").textContent = saying(error);
  }
});

$("sign-out").addEventListener("click", async () => {
  await guarded(() => client.delete("/api/session"));
  location.reload();
});

// The live feed is not for this caller; true: trying again at once is no use.
/** @param {string} reason */
function refused(reason) {
  if (!/^(key_missing|wrong_key)/.test(reason)) return false;
  signIn();
  return true;
}

// --- live -----------------------------------------------------------------------------------

function connect() {
  if (feed && feed.readyState <= WebSocket.OPEN) return; // signing in anew needs no second one
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const resume = cursor ? `?cursor=${cursor}` : "";
  const socket = new WebSocket(`${scheme}://${location.host}/ws/events${resume}`);
  feed = socket;
  const ping = setInterval(() => {
    if (socket.readyState === WebSocket.OPEN) socket.send("ping");
  }, 15_000); // half of the shortest WEBSOCKET_IDLE_TIMEOUT_SECONDS
  socket.addEventListener("message", (message) => hear(JSON.parse(message.data)));
  socket.addEventListener("close", (closed) => {
    clearInterval(ping);
    if (closed.code === 1008 && refused(closed.reason)) return;
    live(`reconnecting…`, "warn");
    setTimeout(connect, backOff);
    backOff = Math.min(backOff * 2, 30_000);
  });
}

/** @param {import("./types").Message} message */
function hear(message) {
  if (message.cursor) cursor = message.cursor;
  switch (message.type) {
    case "hello":
      backOff = 1000;
      live("live", "good");
      guarded(loadCameras).then(() => (message.resumed ? undefined : load()));
      break;
    case "event":
    case "event_reviewed":
      lately = [...lately.filter(({ at }) => at > Date.now() - 6 * BEHIND_MS),
        { at: Date.now(), message }];
      tell(message);
      break;
    case "unverified_activity":
      unseen.hear(message.data);
      break;
    case "scene_change":
      scenes.hear(message.data);
      break;
    case "camera_status":
      setTimeout(() => guarded(loadCameras), 500);
      break;
  }
}

// Show what the live feed says of an event; told again, it changes nothing.
/** @param {import("./types").Message} message */
function tell(message) {
  switch (message.type) {
    case "event": {
      const { data } = message;
      const picture = data.picture_id && `/api/pictures/${data.picture_id}`;
      const links = picture ? { links: { image: `${picture}/image`, thumbnail: `${picture}/thumbnail` } } : {};
      const told = Object.fromEntries(Object.entries(data).filter(([, value]) => value !== null));
      show(/** @type {Shown} */ ({ ...told, ...links }), !events.has(data.id));
      break;
    }
    case "event_reviewed": {
      const { event_id: id, ...told } = message.data;
      if (events.has(id)) show({ ...told, id });
      break;
    }
  }
}

/**
 * @param {string} text
 * @param {string} look
 */
function live(text, look) {
  $("live").textContent = text;
  $("live").className = `pill dot ${look}`;
}

// --- health ---------------------------------------------------------------------------------

/** @type {Record<string, string>} */
const LOOKS = { healthy: "good", off: "good", unhealthy: "bad" };

/**
 * @param {string} name
 * @param {{ status: string, message: string }} check
 */
function service(name, check, told = check.status !== "healthy" && check.status !== "off") {
  return element("span", {
    className: `dot ${LOOKS[check.status] ?? "warn"}`, title: check.message,
    textContent: `${words(name)}: ${check.status}${told ? ` (${check.message})` : ""}`,
  });
}

async function health() {
  const told = await client.get("/api/system/health").catch(() => null);
  if (!told) {
    $("health").replaceChildren(service("server", { status: "unhealthy", message: "it does not answer" }));
    return;
  }
  const { ai, ...others } = told.services;
  const models = ai?.details ?? {};
  $("health").replaceChildren(...Object.entries({ ...others, ...models }).map(
    ([name, check]) => service(name, check, name === "detector" || undefined)));
  $("stages").replaceChildren(...told.stages.map((stage) => element("span", {
    textContent: `${stage.stage}: ${stage.pending + stage.processing
      ? `${stage.pending} waiting, ${stage.processing} in hand` : "nothing waits"}`,
  })));
}

$("older").addEventListener("click", () => load(older));
$("filters").addEventListener("change", () => load());
$("filters").addEventListener("submit", (event) => event.preventDefault());
const panel = new ServicePanel(client, guarded);
const scenes = new SceneFeed(client, guarded, { thumbnail, moment, cameraName });
const unseen = new UnverifiedFeed(client, guarded, { thumbnail, moment, cameraName });
enter();
health();
setInterval(() => {
  if (document.hidden) return;
  health();
  panel.load();
  unseen.lookAgain();
}, 5000);
