-- Outlast 2: the media lists of generations.
--
-- Internal functions only: the functions of later migrations call them, and no role may execute them directly.
-- Functions of the same names without a binding, from earlier versions, stay: calls under way during an upgrade need them.

select public.outlast_start_change();

-- Whether what belongs to a user may be shown on a row of `p_owner`: a row can be deleted and inserted again with the
-- same id by another user. A null is not compared. A uuid may have been submitted in capitals; char(n) pads values.
create or replace function public.outlast_owns(p_owner text, p_user_id text) returns boolean
language plpgsql immutable security definer set search_path = '' as $$
begin
  return coalesce(rtrim(p_owner) = rtrim(p_user_id)
    or (p_owner ~ '^[0-9a-f-]{36}$' and p_owner = lower(p_user_id)), true);
end $$;

-- The tasks whose files form the generation's media. These are the tasks of the newest output, and the tasks that FAL's
-- webhook created for the request id on the row: FAL's and Supabase's webhooks describe the same output differently. If
-- Supabase's webhook created no task, the newest output that FAL's webhook reported is used. A cancelled task decides
-- which output is the newest only if all tasks are cancelled. Otherwise it is returned when it belongs to that output.
-- Tasks of others than the owner are left out.
create or replace function public.outlast_current_tasks(
  p_binding text, p_generation_id text, p_request_id text, p_owner text
)
returns setof public.outlast_tasks language plpgsql stable security definer set search_path = '' as $$
declare
  v_newest public.outlast_tasks;
begin
  select * into v_newest from public.outlast_tasks t
    where t.generation_id = p_generation_id and t.binding = p_binding and public.outlast_owns(p_owner, t.user_id)
    order by t.status = 'cancelled', t.source is not distinct from 'fal', t.event_at desc, t.created_at desc limit 1;
  return query select t.* from public.outlast_tasks t
    where t.generation_id = p_generation_id and t.binding = p_binding and public.outlast_owns(p_owner, t.user_id) and (
      (t.output_key is not distinct from v_newest.output_key
        and (t.source is not distinct from 'fal') = (v_newest.source is not distinct from 'fal'))
      or (t.source = 'fal' and t.request_id = p_request_id and v_newest.source is distinct from 'fal')
    ) and v_newest.task_id is not null;
end $$;

-- What the entry of a stored file in the media list has in addition to those of other files.
create or replace function public.outlast_media_entry(f public.outlast_files) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return jsonb_build_object('id', f.id, 'bucket', f.bucket, 'path', f.path, 'content_type', f.content_type,
    'kind', case when f.content_type = 'application/zip' then 'archive'
      when f.content_type in ('application/json', 'application/x-subrip') then 'text'
      when starts_with(f.content_type, 'application/') then 'data' else split_part(f.content_type, '/', 1) end,
    'width', f.width, 'height', f.height, 'duration', f.duration, 'frames', f.frames, 'thumbhash', f.thumbhash,
    'sha256', f.sha256, 'file_size', f.file_size, 'original_size', f.original_size)
    || case when f.variants is null then '{}' else jsonb_build_object('variants', f.variants) end
    || case when f.quality is null then '{}' else jsonb_build_object('quality', f.quality) end;
end $$;

-- The `files` of a task of which a worker sent only positions and source keys.
create or replace function public.outlast_plain_files(p_keys text[], p_positions int[]) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return (select coalesce(jsonb_agg(jsonb_build_object('source_key', k.source_key, 'position', k.position)), '[]')
    from unnest(p_keys, p_positions) as k (source_key, position));
end $$;

-- The media list of a generation, with one entry for every file of its current tasks in order of `field`, and its
-- status. The status is null when there are only cancelled tasks; without any task, both are null.
create or replace function public.outlast_media(
  p_binding text, p_generation_id text, p_request_id text, p_owner text, out media jsonb, out media_status text
) language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_mixed boolean;
begin
  with tasks as materialized (
    select t.status, t.failed, t.error_code, t.total_files, t.source is not distinct from 'fal' as fal,
      t.status in ('queued', 'running', 'retrying') as open,
      coalesce(t.files, public.outlast_plain_files(t.source_keys, t.positions)) as files
    from public.outlast_current_tasks(p_binding, p_generation_id, p_request_id, p_owner) t
  ), named as materialized (
    select t.fal, t.open, t.status, t.failed, t.error_code, e.*
    from tasks t, jsonb_to_recordset(t.files) as e (
      source_key text, position int, field text, source_url text, original_filename text, code text)
  ), placed as (  -- a file that two tasks name is where Supabase's webhook says
    select distinct on (source_key) * from named
    order by source_key, code is not null, status = 'cancelled', fal, position
  ), judged as (
    select p.*, f, f.id, coalesce(p.code, r.code) as skip_code, r.failed_code, case when f.id is not null then 'stored'
      when p.code is not null or r.code is not null then 'skipped'
      when p.open or exists (select from named n where n.source_key = p.source_key and n.open and n.code is null)
        then 'pending'
      when p.status = 'cancelled' then 'skipped' else 'failed' end as outcome
    from placed p
    left join public.outlast_files f on f.binding = p_binding and f.generation_id = p_generation_id
      and f.source_key = p.source_key and public.outlast_owns(p_owner, f.user_id)
    left join lateral (select x ->> 'code' as failed_code, substring(x ->> 'code' from '^type_skipped$') as code
      from jsonb_array_elements(p.failed) x where x ->> 'source_key' = p.source_key limit 1) r on f.id is null
  ), listed as (
    select coalesce(jsonb_agg(
        jsonb_build_object('position', position, 'field', field, 'status', outcome,
          'source_url', coalesce(source_url, left((f).source_url, 1000)),
          'original_filename', coalesce(original_filename, (f).original_filename)) || case outcome
          when 'stored' then public.outlast_media_entry(f)
          when 'skipped' then jsonb_build_object('code', coalesce(skip_code, 'cancelled'))
          when 'failed' then jsonb_build_object('code', coalesce(failed_code, error_code, 'not_stored'))
          else '{}' end
        order by regexp_replace(regexp_replace(field, '\[([0-9]{1,8})\]', '[0000000\1]', 'g'),
          '\[0{0,7}([0-9]{8})\]', '[\1]', 'g') collate "C", position, fal, source_key), '[]') as media,
      count(*) filter (where skip_code is null or id is not null) as files, count(id) as stored,
      bool_or(fal) and not bool_and(fal) as mixed
    from judged
  ), totals as (
    -- Counted per webhook source, because FAL and Supabase may number the files of one output differently.
    select count(*) as tasks, count(*) filter (where status <> 'cancelled') as live,
      count(*) filter (where open) as open, count(*) filter (where status = 'failed') as failed,
      bool_and(fal) as fal, coalesce(max(total_files) filter (where not fal), max(total_files)) as total
    from tasks
  )
  select case when tasks > 0 then l.media end, case
      when live = 0 then null
      when open > 0 or total > (select count(distinct position) from named n where code is null and n.fal = t.fal)
        then 'pending'
      when stored >= files and (files > 0 or failed = 0) then 'completed'
      when stored > 0 then 'partial'
      else 'failed'
    end, mixed into media, media_status, v_mixed from totals t, listed l;
  if v_mixed then  -- some files are only in FAL's webhook
    media := (select jsonb_agg(e.value || jsonb_build_object('position', e.ordinality - 1) order by e.ordinality)
      from jsonb_array_elements(media) with ordinality e);
  end if;
  media := public.outlast_with_urls(media);
end $$;

revoke all on function public.outlast_current_tasks(text, text, text, text),
  public.outlast_media_entry(public.outlast_files), public.outlast_plain_files(text[], int[]),
  public.outlast_media(text, text, text, text), public.outlast_owns(text, text)
  from public, anon, authenticated, service_role;
