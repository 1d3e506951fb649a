-- depends: 0001.read-models
-- In the place of SCENE_CHANGE_THRESHOLD; NULL: that counts.
ALTER TABLE cameras ADD COLUMN scene_change_threshold double precision;

-- A camera no longer looked at what it had looked at. One row a change.
CREATE TABLE scene_changes (
    id                   text             PRIMARY KEY,
    camera_id            text             NOT NULL,
    detected_at          timestamptz      NOT NULL, -- when the picture that shows it was taken
    recorded_at          timestamptz      NOT NULL,
    change_type          text             NOT NULL, -- view_blocked, angle_changed, view_tampered, unknown
    severity             text             NOT NULL, -- high, medium
    similarity_score     double precision NOT NULL, -- SSIM with the baseline
    structure            double precision NOT NULL, -- share of its structure still in its place
    threshold            double precision NOT NULL,
    picture_id           text             NOT NULL,
    file_id              text             NOT NULL,
    file_path            text             NOT NULL,
    baseline_picture_id  text             NOT NULL,
    baseline_captured_at timestamptz      NOT NULL,
    restored_at          timestamptz,               -- when the baseline's view was back
    acknowledged_at      timestamptz,
    acknowledged_by      text
);
CREATE INDEX scene_changes_camera ON scene_changes (camera_id, detected_at, id);
