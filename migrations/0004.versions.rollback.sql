-- Drops what is being built or kept beside the live tables; those stay as they are.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT projection, version FROM projection_versions LOOP
        EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE',
                       'hsi_' || found.projection || '_v' || found.version);
    END LOOP;
END
$$;
DROP TABLE projection_versions;
