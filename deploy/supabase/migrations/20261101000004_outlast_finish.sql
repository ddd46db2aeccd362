-- Outlast 4: what `outlast_finish` (Outlast 17) needs to record an attempt. Files, objects, task and the generation's
-- row change in one transaction.
--
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.

select public.outlast_start_change();

-- A stored file in the form that workers receive.
create or replace function public.outlast_file_json(f public.outlast_files) returns jsonb
language sql immutable security definer set search_path = '' as $$
  select to_jsonb(f) - array['binding', 'generation_id', 'task_id', 'user_id', 'created_at', 'updated_at']
$$;

-- Whether the functions can read every row of storage.objects. If they can, `outlast_known` and `outlast_finish` check
-- there that an object exists, and the worker sends no request to Storage for it.
create or replace function public.outlast_sees_storage() returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  perform bucket_id, name, metadata, user_metadata from storage.objects limit 0;
  return not row_security_active('storage.objects');
exception when undefined_table or undefined_column or invalid_schema_name or insufficient_privilege then
  return false;
end $$;

-- A stored file of this user, made from the same source bytes with the same profile, whose object exists; null if there
-- is none. Where storage.objects cannot be read, the worker must check that the object exists.
create or replace function public.outlast_known(p_user_id text, p_source_sha256 text, p_profile text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (
    select public.outlast_file_json(f) from public.outlast_files f
    join public.outlast_objects o on o.bucket = f.bucket and o.path = f.path and o.state = 'live'
    where f.source_sha256 = p_source_sha256 and f.profile = p_profile and f.user_id is not distinct from p_user_id
      and (public.outlast_in_storage(f.bucket, f.path)
             and (f.variants is null or public.outlast_has_variants(f.bucket, f.path, f.variants))
           or not public.outlast_sees_storage())
    order by f.updated_at desc limit 1
  );
end $$;

-- Whether Storage has every given file that has an `md5`, with the same size and with that MD5 as its ETag. A multipart
-- upload has an ETag of the form `<hash>-<parts>`, which is no MD5; then the SHA-256 in its user metadata is compared.
create or replace function public.outlast_all_whole(p_files jsonb) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  if not jsonb_path_exists(p_files, '$[*] ? (@.md5 != null || @.variants[*].md5 != null)') then
    return true;  -- does not read storage.objects, which a project without Storage lacks
  end if;
  p_files := public.outlast_with_variants(p_files);
  return not exists (
    select from jsonb_to_recordset(p_files) as f (bucket text, path text, file_size bigint, sha256 text, md5 text)
    where f.md5 is not null and not exists (
      select from storage.objects o
      where o.bucket_id = f.bucket and o.name = f.path and (o.metadata ->> 'size')::bigint = f.file_size
        and (btrim(o.metadata ->> 'eTag', '"') = f.md5
             or (o.metadata ->> 'eTag' like '%-%' and o.user_metadata ->> 'sha256' = f.sha256))
    ));
end $$;

-- Upserts the files by (generation, source key) and recounts the references of every affected object. Raises SQLSTATE
-- OL001 when one of the objects is being deleted. Every object that the files reference now or referenced before is
-- inserted or locked in one statement and in one order, so that two calls that share objects cannot deadlock.
create or replace function public.outlast_store_files(t public.outlast_tasks, p_files jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_buckets text[];
  v_paths text[];
  v_deleting boolean;
begin
  perform public.outlast_lock_generation(t.binding, t.generation_id);
  if jsonb_path_exists(p_files, '$[*].variants[*].path') or exists (select from public.outlast_files f
      where f.binding = t.binding and f.generation_id = t.generation_id and f.variants is not null) then
    perform public.outlast_lock_variants(t.binding, t.generation_id, t.user_id, p_files);
  end if;
  with files as (
    select * from jsonb_populate_recordset(null::public.outlast_files, p_files)
  ), objects as (
    select f.bucket, f.path, t.user_id, f.sha256, f.file_size, f.content_type from files f
    union all
    select old.bucket, old.path, old.user_id, old.sha256, old.file_size, old.content_type
    from public.outlast_files old join files f using (source_key)
    where old.binding = t.binding and old.generation_id = t.generation_id
  ), locked as (
    insert into public.outlast_objects as o (bucket, path, user_id, sha256, file_size, content_type)
      select distinct on (n.bucket, n.path) n.* from objects n order by n.bucket, n.path
      on conflict on constraint outlast_objects_pkey do update set updated_at = clock_timestamp(),
        user_id = coalesce(o.user_id, excluded.user_id), sha256 = coalesce(o.sha256, excluded.sha256),
        file_size = coalesce(o.file_size, excluded.file_size),
        content_type = coalesce(o.content_type, excluded.content_type)
      returning o.bucket, o.path, o.state
  )
  select array_agg(bucket), array_agg(path), bool_or(state = 'deleting') into v_buckets, v_paths, v_deleting from locked;
  if v_deleting then
    raise exception 'an object is being deleted' using errcode = 'OL001';
  end if;
  insert into public.outlast_files as old (
      id, binding, generation_id, source_key, task_id, user_id, position, original_filename, original_size, file_size,
      content_type, bucket, path, sha256, width, height, duration, frames, thumbhash, source_url, source_sha256,
      profile, deduplicated, variants, quality)
    select distinct on (f.source_key)
      f.id, t.binding, t.generation_id, f.source_key, t.task_id, t.user_id, coalesce(f.position, 0),
      f.original_filename, f.original_size, f.file_size, f.content_type, f.bucket, f.path, f.sha256, f.width, f.height,
      f.duration, f.frames,
      f.thumbhash, f.source_url, f.source_sha256, f.profile, coalesce(f.deduplicated, false),
      case when f.variants is not null then public.outlast_plain_variants(f.variants) end, f.quality
    from jsonb_populate_recordset(null::public.outlast_files, p_files) f order by f.source_key
    on conflict (binding, generation_id, source_key) do update set
      id = excluded.id, task_id = excluded.task_id, user_id = excluded.user_id, position = excluded.position,
      original_filename = excluded.original_filename, original_size = excluded.original_size,
      file_size = excluded.file_size, content_type = excluded.content_type, bucket = excluded.bucket,
      path = excluded.path, sha256 = excluded.sha256, width = excluded.width, height = excluded.height,
      duration = excluded.duration, frames = excluded.frames, thumbhash = excluded.thumbhash,
      source_url = excluded.source_url, source_sha256 = excluded.source_sha256, profile = excluded.profile,
      deduplicated = excluded.deduplicated, variants = excluded.variants, quality = excluded.quality,
      updated_at = now();
  update public.outlast_objects o set refs = (
      select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path
    ) from unnest(v_buckets, v_paths) as touched (bucket, path)
    where o.bucket = touched.bucket and o.path = touched.path;
end $$;

-- The new failures, and the earlier failures of files that have not been stored or reported as failed again.
create or replace function public.outlast_merge_failed(t public.outlast_tasks, p_failed jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(old), '[]') || coalesce(p_failed, '[]') from jsonb_array_elements(t.failed) old
    where not exists (select from public.outlast_files f
                      where f.binding = t.binding and f.generation_id = t.generation_id
                        and f.source_key = old ->> 'source_key' and public.outlast_owns(t.user_id, f.user_id))
      and not exists (select from jsonb_array_elements(p_failed) new where new ->> 'source_key' = old ->> 'source_key')
  );
end $$;

-- The `result` of a task that has ended; `p_ids` are the ids of its stored files.
create or replace function public.outlast_result(t public.outlast_tasks, p_ids uuid[]) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return jsonb_build_object(
    'successful_files', cardinality(p_ids), 'total_files', greatest(cardinality(t.source_keys), cardinality(p_ids)),
    'processing_time', round(extract(epoch from clock_timestamp() - coalesce(t.started_at, t.created_at)), 3),
    'processed_file_ids', to_jsonb(p_ids), 'failed_files', t.failed);
end $$;

-- The `progress` of a task that has ended without an attempt, as outlast_finish writes it after one: a worker's last
-- report may be older.
create or replace function public.outlast_final_progress(t public.outlast_tasks, p_ids uuid[]) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return jsonb_build_object('completed', cardinality(p_ids), 'failed', jsonb_array_length(t.failed),
    'total', greatest(cardinality(t.source_keys), cardinality(p_ids)), 'downloaded', 0, 'size', null);
end $$;

revoke all on function public.outlast_file_json(public.outlast_files), public.outlast_all_whole(jsonb),
  public.outlast_sees_storage(),
  public.outlast_store_files(public.outlast_tasks, jsonb), public.outlast_merge_failed(public.outlast_tasks, jsonb),
  public.outlast_final_progress(public.outlast_tasks, uuid[]),
  public.outlast_result(public.outlast_tasks, uuid[]) from public, anon, authenticated, service_role;
revoke all on function public.outlast_known(text, text, text) from public, anon, authenticated;
grant execute on function public.outlast_known(text, text, text) to service_role;
