// @ts-check
// Pictures that nobody could look at when they came, and what became of each since.

import { $, element } from "./page.js";

/** @typedef {import("./types").Schemas["UnverifiedAnswer"]} Told */
/** @typedef {import("./client.js").Client} Client */
/** @typedef {<T>(work: () => Promise<T>) => Promise<T | null>} Guarded */
/**
 * What the timeline shows its events with.
 * @typedef {object} Means
 * @property {(url: string, text: string, full: string) => Node} thumbnail
 * @property {(iso: string) => Node} moment
 * @property {(id: string) => string} cameraName
 */

const DAY = 24 * 60 * 60 * 1000;
const MOST = 20;

/** Shows what was told as unverified during the last day, the newest first. */
export class UnverifiedFeed {
  /**
   * @param {Client} client
   * @param {Guarded} guarded
   * @param {Means} means
   */
  constructor(client, guarded, means) {
    this.client = client;
    this.guarded = guarded;
    this.means = means;
    /** @type {Map<string, Told>} */
    this.told = new Map();
    /** @type {Map<string, Told>} What the live feed told and no list has had yet. */
    this.heard = new Map();
  }

  /** Ask for what was told, of one camera or of all. */
  async load() {
    const query = {
      limit: MOST,
      camera_id: $("camera").value || undefined,
      start_date: new Date(Date.now() - DAY).toISOString(),
    };
    const page = await this.guarded(() => this.client.get("/api/unverified", { query }));
    if (!page) return;
    const listed = new Map(page.unverified.map((told) => [told.id, told]));
    // The live feed may be faster than the list; from then on the list knows better.
    listed.forEach((_, id) => this.heard.delete(id));
    const heard = [...this.heard].filter(([, told]) => this.wants(told));
    this.told = new Map([...heard, ...listed]);
    this.show();
  }

  /** @param {Told} told */
  wants(told) {
    return !$("camera").value || $("camera").value === told.camera_id;
  }

  /**
   * Show what the live feed has just told.
   * @param {Omit<Told, "state" | "event_id">} told
   */
  hear(told) {
    const now = { ...told, state: /** @type {const} */ ("pending"), event_id: null };
    this.heard = new Map([[told.id, now], ...this.heard]);
    if (!this.wants(now)) return;
    this.told = new Map([[told.id, now], ...this.told]);
    this.show();
  }

  /** Ask again as long as nobody knows what became of one. */
  async lookAgain() {
    if ([...this.told.values()].some((told) => told.state === "pending")) await this.load();
  }

  show() {
    $("unverified").replaceChildren(...[...this.told.values()].map((told) =>
      element("li", {}, this.card(told))));
    $("unverified").hidden = !this.told.size;
  }

  /** @param {Told} told */
  card(told) {
    const { thumbnail, moment, cameraName } = this.means;
    const { links } = told;
    const made = element("article", { className: `unverified ${told.state}` });
    made.dataset.unverified = told.id;
    made.append(
      thumbnail(links.thumbnail ?? "", "A picture that came unseen", links.picture ?? ""),
      element("div", {},
        element("div", { className: "head" },
          element("strong", { textContent: cameraName(told.camera_id) }),
          element("span", { className: "level", textContent: "unverified" }),
          element("span", { className: "soft" }, moment(told.captured_at))),
        element("p", { className: "summary", textContent: became(told) })));
    return made;
  }
}

/** @param {Told} told */
function became(told) {
  switch (told.state) {
    case "pending":
      return `Nobody knows what it shows: the ${told.service} is away. It is looked at later.`;
    case "assessed":
      return "Looked at later: it belongs to an event below.";
    case "filtered":
      return "Looked at later: nothing in it counted.";
    default:
      return "It could not be looked at and was moved aside.";
  }
}
