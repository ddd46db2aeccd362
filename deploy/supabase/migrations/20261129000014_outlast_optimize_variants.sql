-- Outlast 14: `outlast optimize --variants`: making the variants that are wanted now of files that are stored.
--
-- Lock order in all functions: task, generation, objects of variants by (bucket, path), other objects by (bucket, path),
-- the generation's row.

select public.outlast_start_change();

-- Those of these variants that a file of this type has: waveforms of audio, the others of pictures and of videos (of
-- their posters); none of SVG, OpenEXR and all other types.
create or replace function public.outlast_variants_for(p_content_type text, p_variants text) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return (select coalesce(string_agg(w.word, ',' order by w.n), '')
    from unnest(string_to_array(p_variants, ',')) with ordinality w (word, n)
    where case when w.word like '%:waveform' then starts_with(p_content_type, 'audio/')
      else p_content_type ~ '^(image|video)/' and p_content_type not in ('image/svg+xml', 'image/x-exr') end);
end $$;

-- Files whose variants are not those that are wanted: by their binding, or else `p_variants`. An object whose files want
-- different variants is returned once; the next run finds it again.
create or replace function public.outlast_unvaried(
  p_bucket text, p_variants text, p_since timestamptz, p_after text,
  out path text, out content_type text, out file_size bigint, out sha256 text, out user_id text, out profile text,
  out wanted text
) returns setof record language sql stable security definer set search_path = '' as $$
  select distinct on (f.path) f.path, f.content_type, f.file_size, f.sha256, f.user_id, split_part(f.profile, '+', 1),
    coalesce(b.variants, p_variants)
  from public.outlast_files f left join public.outlast_bindings b on b.name = f.binding
  where f.bucket = p_bucket and f.content_type ~ '^(image|video|audio)/' and f.path > coalesce(p_after, '')
    and (p_since is null or f.created_at >= p_since)
    and case when public.outlast_variants_of(f.profile) <> coalesce(b.variants, p_variants)
      then public.outlast_variants_for(f.content_type, public.outlast_variants_of(f.profile))
        <> public.outlast_variants_for(f.content_type, coalesce(b.variants, p_variants)) end
  order by f.path, f.id
$$;

-- The next of these files in order of path, starting after path `p_after`.
create or replace function public.outlast_to_vary(
  p_bucket text, p_variants text, p_since timestamptz default null, p_after text default null, p_limit int default 100
) returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(u) order by u.path), '[]') from (
    select * from public.outlast_unvaried(p_bucket, p_variants, p_since, p_after) o order by o.path limit p_limit) u
$$;

create or replace function public.outlast_count_unvaried(
  p_bucket text, p_variants text, p_since timestamptz default null
) returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('objects', count(*), 'bytes', coalesce(sum(u.file_size), 0))
  from public.outlast_unvaried(p_bucket, p_variants, p_since, null) u
$$;

-- Gives the files of an object new variants, whose objects are claimed and stored, if they want `p_wanted`. One call
-- changes at most `p_limit` generations; `more`: call again.
create or replace function public.outlast_set_variants(
  p_bucket text, p_path text, p_wanted text, p_variants jsonb, p_default text, p_limit int default 200
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_bindings text[];
  v_generations text[];
  v_new text[] := public.outlast_variant_paths(p_variants, p_path);
  v_ids text[];
begin
  select array_agg(f.binding order by f.binding, f.generation_id),
      array_agg(f.generation_id order by f.binding, f.generation_id) into v_bindings, v_generations from (
    select distinct f.binding, f.generation_id
    from public.outlast_files f left join public.outlast_bindings b on b.name = f.binding
    where f.bucket = p_bucket and f.path = p_path and coalesce(b.variants, p_default) = p_wanted
      and public.outlast_variants_of(f.profile) <> p_wanted
    order by f.binding, f.generation_id limit p_limit
  ) f;
  perform public.outlast_lock_generation(g.binding, g.id) from unnest(v_bindings, v_generations) g (binding, id);
  perform from public.outlast_objects o where o.bucket = p_bucket and o.path = any (v_new || array(
      select v.path from public.outlast_files f, unnest(public.outlast_variant_paths(f.variants, f.path)) v (path)
      where f.bucket = p_bucket and f.path = p_path and f.variants is not null))
    order by o.path for update;
  if (select count(*) from public.outlast_objects o where o.bucket = p_bucket and o.path = any (v_new)
      and o.state = 'live') < cardinality(v_new) then
    return jsonb_build_object('state', 'object_deleting', 'files', 0, 'more', false);
  end if;
  update public.outlast_objects o set sha256 = v.value ->> 'sha256', file_size = (v.value ->> 'file_size')::bigint,
      content_type = v.value ->> 'content_type'
    from jsonb_array_elements(p_variants) v
    where o.bucket = p_bucket and o.path = v.value ->> 'path' and o.path <> p_path;
  with varied as (
    update public.outlast_files f set variants = public.outlast_plain_variants(p_variants), updated_at = now(),
      profile = split_part(f.profile, '+', 1) || coalesce('+' || nullif(p_wanted, ''), '')
    where f.bucket = p_bucket and f.path = p_path and public.outlast_variants_of(f.profile) <> p_wanted
      and (f.binding, f.generation_id) in (select * from unnest(v_bindings, v_generations))
    returning f.id
  )
  select array_agg(varied.id::text) into v_ids from varied;
  perform public.outlast_repoint_media(g.binding, g.id, v_ids) from unnest(v_bindings, v_generations) g (binding, id);
  return jsonb_build_object('state', 'moved', 'files', coalesce(cardinality(v_ids), 0),
    'more', coalesce(cardinality(v_generations), 0) = p_limit);
end $$;

revoke all on function public.outlast_variants_for(text, text),
  public.outlast_unvaried(text, text, timestamptz, text) from public, anon, authenticated, service_role;
revoke all on function public.outlast_to_vary(text, text, timestamptz, text, int),
  public.outlast_count_unvaried(text, text, timestamptz),
  public.outlast_set_variants(text, text, text, jsonb, text, int) from public, anon, authenticated;
grant execute on function public.outlast_to_vary(text, text, timestamptz, text, int),
  public.outlast_count_unvaried(text, text, timestamptz),
  public.outlast_set_variants(text, text, text, jsonb, text, int) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000014')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
