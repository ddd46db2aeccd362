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

-- An entry of the media list. `p_code` says why a file was skipped or failed; `f` is null unless it is stored.
create or replace function public.outlast_entry(
  p_position int, p_field text, p_source_url text, p_filename text, p_status text, p_code text, f public.outlast_files
) returns jsonb language plpgsql immutable security definer set search_path = '' as $$
begin
  return jsonb_build_object('position', p_position, 'field', p_field, 'status', p_status,
      'source_url', coalesce(p_source_url, left(f.source_url, 1000)),
      'original_filename', coalesce(p_filename, f.original_filename))
    || case p_status when 'stored' then public.outlast_media_entry(f) when 'pending' then '{}'
      else jsonb_build_object('code', p_code) end;
end $$;

-- What outlast_media_of_tasks returns, for a generation with this one task, which names one file. Most are such.
create or replace function public.outlast_media_of_one(
  t public.outlast_tasks, e jsonb, p_owner text, out media jsonb, out media_status text
) language plpgsql stable security definer set search_path = '' as $$
declare
  f public.outlast_files;
  v_open boolean := t.status in ('queued', 'running', 'retrying');
  v_failed_code text;
  v_skip_code text := e ->> 'code';
  v_outcome text;
begin
  select * into f from public.outlast_files o where o.binding = t.binding and o.generation_id = t.generation_id
    and o.source_key = e ->> 'source_key' and public.outlast_owns(p_owner, o.user_id);
  if f.id is null and t.failed <> '[]' then
    v_failed_code := (select x ->> 'code' from jsonb_array_elements(t.failed) x
      where x ->> 'source_key' = e ->> 'source_key' limit 1);
    v_skip_code := coalesce(v_skip_code, substring(v_failed_code from '^type_skipped$'));
  end if;
  v_outcome := case when f.id is not null then 'stored' when v_skip_code is not null then 'skipped'
    when v_open then 'pending' when t.status = 'cancelled' then 'skipped' else 'failed' end;
  media := jsonb_build_array(public.outlast_entry((e ->> 'position')::int, e ->> 'field', e ->> 'source_url',
    e ->> 'original_filename', v_outcome, case v_outcome when 'skipped' then coalesce(v_skip_code, 'cancelled')
      when 'failed' then coalesce(v_failed_code, t.error_code, 'not_stored') end, f));
  media_status := case when t.status = 'cancelled' then null
    when v_open or t.total_files > case when e ->> 'code' is null then 1 else 0 end then 'pending'
    when v_outcome = 'stored' or (v_outcome = 'skipped' and t.status <> 'failed') then 'completed'
    else 'failed' end;
end $$;

-- The media list of a generation, with one entry for every file of its current tasks in order of `field`, and its
-- status. The status is null when there are only cancelled tasks; without any task, both are null.
create or replace function public.outlast_media_of_tasks(
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
        public.outlast_entry(position, field, source_url, original_filename, outcome, case outcome
          when 'skipped' then coalesce(skip_code, 'cancelled')
          when 'failed' then coalesce(failed_code, error_code, 'not_stored') end, f)
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
end $$;

-- The media list and status of a generation, as above, with the `url` of each file in a public bucket.
create or replace function public.outlast_media(
  p_binding text, p_generation_id text, p_request_id text, p_owner text, out media jsonb, out media_status text
) language plpgsql stable security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
  m record;
  v_tasks int := 0;
  v_files jsonb;
begin
  for t in
    select * from public.outlast_tasks o where o.generation_id = p_generation_id and o.binding = p_binding limit 2
  loop
    v_tasks := v_tasks + 1;
  end loop;
  v_files := coalesce(t.files, public.outlast_plain_files(t.source_keys, t.positions));
  if v_tasks = 1 and jsonb_array_length(v_files) = 1 and public.outlast_owns(p_owner, t.user_id) then
    m := public.outlast_media_of_one(t, v_files -> 0, p_owner);
  else
    m := public.outlast_media_of_tasks(p_binding, p_generation_id, p_request_id, p_owner);
  end if;
  media := public.outlast_with_urls(m.media);
  media_status := m.media_status;
end $$;

revoke all on function public.outlast_current_tasks(text, text, text, text),
  public.outlast_media_entry(public.outlast_files), public.outlast_plain_files(text[], int[]),
  public.outlast_entry(int, text, text, text, text, text, public.outlast_files),
  public.outlast_media_of_one(public.outlast_tasks, jsonb, text),
  public.outlast_media_of_tasks(text, text, text, text),
  public.outlast_media(text, text, text, text), public.outlast_owns(text, text)
  from public, anon, authenticated, service_role;
