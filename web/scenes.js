// @ts-check
// Cameras that no longer look at what they looked at: both pictures, and "this is right so".

import { $, element, words } from "./page.js";

/** @typedef {import("./types").Schemas["SceneChangeAnswer"]} Change */
/** @typedef {import("./types").SceneChangeTold} Told */
/** @typedef {import("./client.js").Client} Client */
/** @typedef {<T>(work: () => Promise<T>) => Promise<T | null>} Guarded */
/**
 * What a notice shows.
 * @typedef {Pick<Change, "id" | "camera_id" | "detected_at" | "change_type" | "severity"
 *   | "similarity_score" | "restored_at" | "links">} Shown
 */
/**
 * What the timeline shows its events with.
 * @typedef {object} Means
 * @property {(url: string, text: string, full: string) => Node} thumbnail
 * @property {(iso: string) => Node} moment
 * @property {(id: string) => string} cameraName
 */

const MOST = 5;
/** @type {Record<Shown["change_type"], string>} */
const MEANS = {
  view_blocked: "It shows nothing any more: its lens is covered, or no light is left.",
  angle_changed: "It looks elsewhere: it was turned, shifted or zoomed.",
  view_tampered: "Nothing of what it looked at is left.",
  unknown: "Most of what it looked at is not to be seen.",
};

/** Shows what nobody has acknowledged, the newest first. */
export class SceneFeed {
  /**
   * @param {Client} client
   * @param {Guarded} guarded
   * @param {Means} means
   */
  constructor(client, guarded, means) {
    this.client = client;
    this.guarded = guarded;
    this.means = means;
    /** Whether who looks may acknowledge a change. */
    this.mayAcknowledge = true;
    /** @type {Map<string, Shown>} */
    this.changes = new Map();
  }

  /**
   * Ask for what nobody has acknowledged.
   * @param {string[]} cameras
   */
  async load(cameras) {
    const query = { acknowledged: false, limit: MOST };
    const pages = await this.guarded(() => Promise.all(cameras.map((id) =>
      this.client.get("/api/cameras/{id}/scene-changes", { path: { id }, query }))));
    if (!pages) return;
    this.changes = new Map(pages.flatMap((page) => page.scene_changes)
      .map((change) => [change.id, change]));
    this.show();
  }

  /**
   * Show what the live feed has just told.
   * @param {Told} told
   */
  hear(told) {
    for (const id of told.ids) {
      const known = this.changes.get(id);
      if (told.change === "acknowledged") this.changes.delete(id);
      else if (known && told.change === "restored") {
        this.changes.set(id, { ...known, restored_at: told.at });
      } else if (told.change === "detected") {
        const { camera_id, change_type, severity, similarity_score, links } = told;
        this.changes.set(id, { id, camera_id, change_type, severity, similarity_score, links,
          detected_at: told.at, restored_at: null });
      }
    }
    this.show();
  }

  show() {
    const newest = [...this.changes.values()].sort((one, other) =>
      Date.parse(other.detected_at) - Date.parse(one.detected_at));
    $("scene-changes").replaceChildren(...newest.map((change) =>
      element("li", {}, this.card(change))));
    $("scene-changes").hidden = !newest.length;
  }

  /** @param {Shown} change */
  card(change) {
    const { thumbnail, moment, cameraName } = this.means;
    const { links } = change;
    const made = element("article", { className: `scene ${change.severity}` });
    made.dataset.scene = change.id;
    made.append(
      element("div", { className: "pair" },
        thumbnail(links.baseline_thumbnail ?? "", "What the camera looked at", links.baseline ?? ""),
        thumbnail(links.thumbnail ?? "", "What it shows now", links.picture ?? "")),
      element("div", {},
        element("div", { className: "head" },
          element("strong", { textContent: cameraName(change.camera_id) }),
          element("span", { className: "level", textContent: words(change.change_type) }),
          element("span", { className: "soft" }, moment(change.detected_at)),
          element("span", { className: "soft",
            textContent: `similarity ${Math.round(change.similarity_score * 100)} %` })),
        element("p", { className: "summary", textContent: MEANS[change.change_type] }),
        change.restored_at
          ? element("p", { className: "soft" }, "The view is back since ", moment(change.restored_at))
          : null,
        this.mayAcknowledge ? this.button(change) : null));
    return made;
  }

  /** @param {Shown} change */
  button(change) {
    const button = element("button", { type: "button",
      textContent: change.restored_at ? "I have seen it" : "Acknowledge: compare with this view" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      await this.guarded(async () => {
        await this.client.post("/api/cameras/{id}/scene-changes/{change_id}/acknowledge",
          { path: { id: change.camera_id, change_id: change.id } });
        this.changes.delete(change.id);
        this.show();
      });
      button.disabled = false;
    });
    return button;
  }
}
