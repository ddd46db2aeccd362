-- Outlast 11: `outlast optimize`: finding images to compress again, and moving their files to the new objects.
--
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.

select public.outlast_start_change();

-- Images that can be optimized: stored with another profile (`stale`), or one of several objects that were made from
-- the same source of one user. `p_profile` is without variants, which stay. `twin` is the smallest other object made from the same source with the requested
-- profile.
create or replace function public.outlast_suboptimal(
  p_bucket text, p_profile text, p_since timestamptz, p_after text,
  out path text, out content_type text, out file_size bigint, out sha256 text, out user_id text,
  out source_sha256 text, out stale boolean, out twin jsonb
) returns setof record language sql stable security definer set search_path = '' as $$
  select distinct on (f.path) f.path, f.content_type, f.file_size, f.sha256, f.user_id, f.source_sha256,
    split_part(f.profile, '+', 1) is distinct from p_profile, public.outlast_file_json(t.twin)
  from public.outlast_files f
  left join lateral (
    select b as twin from public.outlast_files b
    join public.outlast_objects o on o.bucket = b.bucket and o.path = b.path and o.state = 'live'
    where b.source_sha256 = f.source_sha256 and split_part(b.profile, '+', 1) = p_profile and b.user_id is not distinct from f.user_id
      and b.bucket = f.bucket and b.path <> f.path
      and (split_part(f.profile, '+', 1) is distinct from p_profile or (b.file_size, b.path) < (f.file_size, f.path))
    order by b.file_size, b.path limit 1
  ) t on true
  where f.bucket = p_bucket and starts_with(f.content_type, 'image/') and f.path > coalesce(p_after, '')
    and (p_since is null or f.created_at >= p_since)
    and (split_part(f.profile, '+', 1) is distinct from p_profile or (t.twin).id is not null)
  order by f.path, (t.twin).id is null, f.id
$$;

-- The next objects to optimize in order of path, starting after path `p_after`.
create or replace function public.outlast_to_optimize(
  p_bucket text, p_profile text, p_since timestamptz default null, p_after text default null, p_limit int default 100
) returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(s) order by s.path), '[]') from (
    select * from public.outlast_suboptimal(p_bucket, p_profile, p_since, p_after) o order by o.path limit p_limit
  ) s
$$;

-- The number of objects to optimize, their size in bytes, and how many of them have a twin that can replace them.
create or replace function public.outlast_optimizable(
  p_bucket text, p_profile text, p_since timestamptz default null
) returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('objects', count(*), 'bytes', coalesce(sum(s.file_size), 0), 'duplicates', count(s.twin))
  from public.outlast_suboptimal(p_bucket, p_profile, p_since, null) s
$$;

-- Updates the entries of moved files in the media list on the generation's row, if there is one. Other entries stay.
create or replace function public.outlast_repoint_media(p_binding text, p_generation_id text, p_ids text[]) returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_bound(p_binding);
  if g.id_name is null or g.media_name is null then
    return;
  end if;
  execute format($sql$
    update %1$s g set %4$I = (
      select public.outlast_with_urls(jsonb_agg(case when f.id is null then e.value
        else e.value - array['variants', 'quality'] || public.outlast_media_entry(f) end order by e.ordinality))
      from jsonb_array_elements(g.%4$I) with ordinality e
      left join public.outlast_files f on f.id::text = e.value ->> 'id' and f.id::text = any ($2)
    ) where g.%2$I = $1::%3$s and exists (
      select from jsonb_array_elements(case jsonb_typeof(g.%4$I) when 'array' then g.%4$I else '[]' end) m
      where m ->> 'id' = any ($2))
  $sql$, g.rel, g.id_name, g.id_type, g.media_name) using p_generation_id, p_ids;
exception when data_exception then
  return;
end $$;

-- Makes the files of an object reference another object, or keep their object with a new profile. `p_file` has the new
-- values in the form of an outlast_files row. With `p_source_sha256`, only files made from that source are changed. The
-- media lists of their generations are updated. One call changes at most `p_limit` generations; `more`: call again.
create or replace function public.outlast_move_object(
  p_bucket text, p_path text, p_file jsonb, p_source_sha256 text default null, p_limit int default 200
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  n public.outlast_files := jsonb_populate_record(null::public.outlast_files, p_file);
  v_bindings text[];
  v_generations text[];
  v_ids text[];
begin
  n.profile := split_part(n.profile, '+', 1);
  select array_agg(f.binding order by f.binding, f.generation_id),
      array_agg(f.generation_id order by f.binding, f.generation_id) into v_bindings, v_generations from (
    select distinct binding, generation_id from public.outlast_files
    where bucket = p_bucket and path = p_path and (path, split_part(profile, '+', 1)) is distinct from (n.path, n.profile)
      and (p_source_sha256 is null or source_sha256 = p_source_sha256)
    order by binding, generation_id limit p_limit
  ) f;
  perform public.outlast_lock_generation(g.binding, g.id) from unnest(v_bindings, v_generations) g (binding, id);
  perform from public.outlast_objects where bucket = p_bucket and path in (p_path, n.path) order by path for update;
  if not exists (select from public.outlast_objects where bucket = p_bucket and path = n.path and state = 'live') then
    return jsonb_build_object('state', 'object_deleting', 'files', 0, 'more', false);
  end if;
  with moved as (
    update public.outlast_files f set path = n.path, sha256 = n.sha256, file_size = n.file_size,
      content_type = n.content_type, width = n.width, height = n.height, duration = n.duration,
      thumbhash = n.thumbhash, quality = n.quality,
      profile = n.profile || coalesce('+' || nullif(public.outlast_variants_of(f.profile), ''), ''),
      variants = public.outlast_moved_variants(f.variants, f.path, to_jsonb(n)), updated_at = now()
    where f.bucket = p_bucket and f.path = p_path
      and (f.binding, f.generation_id) in (select * from unnest(v_bindings, v_generations))
      and (f.path, split_part(f.profile, '+', 1)) is distinct from (n.path, n.profile)
      and (p_source_sha256 is null or f.source_sha256 = p_source_sha256)
    returning f.id
  )
  select array_agg(moved.id::text) into v_ids from moved;
  update public.outlast_objects o set updated_at = clock_timestamp(),
      refs = (select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path),
      sha256 = case when o.path = n.path then n.sha256 else o.sha256 end,
      file_size = case when o.path = n.path then n.file_size else o.file_size end,
      content_type = case when o.path = n.path then n.content_type else o.content_type end
    where o.bucket = p_bucket and o.path in (p_path, n.path);
  perform public.outlast_repoint_media(g.binding, g.id, v_ids) from unnest(v_bindings, v_generations) g (binding, id);
  perform public.outlast_write_media(g.binding, g.id, false) from unnest(v_bindings, v_generations) g (binding, id)
    join public.outlast_bindings b on b.name = g.binding and b.write_urls <> '{}';
  return jsonb_build_object('state', 'moved', 'files', coalesce(cardinality(v_ids), 0),
    'more', coalesce(cardinality(v_generations), 0) = p_limit);
end $$;

revoke all on function public.outlast_suboptimal(text, text, timestamptz, text),
  public.outlast_repoint_media(text, text, text[]) from public, anon, authenticated, service_role;
revoke all on function public.outlast_to_optimize(text, text, timestamptz, text, int),
  public.outlast_optimizable(text, text, timestamptz), public.outlast_move_object(text, text, jsonb, text, int)
  from public, anon, authenticated;
grant execute on function public.outlast_to_optimize(text, text, timestamptz, text, int),
  public.outlast_optimizable(text, text, timestamptz), public.outlast_move_object(text, text, jsonb, text, int)
  to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000011')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
