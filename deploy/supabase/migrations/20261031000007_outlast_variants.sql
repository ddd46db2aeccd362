-- Outlast: variants, the smaller versions of a picture. `variants` of outlast_files lists them: name, path, size, hash
-- and shape of each. They are objects in the bucket of the picture, and count as references like the picture itself. A
-- variant that needs no pixels of its own is the picture, and has its path. The name of a profile ends with the variants
-- that are wanted, after a plus sign: `auto-q85-strip+thumb:256`.
--
-- These functions come before those that call them, so that no call fails while an upgrade is applied file by file.
--
-- Lock order in all functions: task, generation, objects of variants by (bucket, path), other objects by (bucket, path),
-- the generation's row.

select public.outlast_start_change();

-- The paths of a file's variants that have objects of their own, each once and in order.
create or replace function public.outlast_variant_paths(p_variants jsonb, p_path text) returns text[]
language plpgsql immutable strict security definer set search_path = '' as $$
begin
  return array(select distinct v ->> 'path' from jsonb_array_elements(p_variants) v
    where v ->> 'path' is distinct from p_path order by 1);
end $$;

-- Number of files that have the object as a variant.
create or replace function public.outlast_variant_refs(p_bucket text, p_path text) returns bigint
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select count(*) from public.outlast_files f where f.variants is not null and f.bucket = p_bucket
    and f.path <> p_path and f.variants @> jsonb_build_array(jsonb_build_object('path', p_path)));
end $$;

-- The variants in the form of outlast_files, to record: without the MD5; null if there are none.
create or replace function public.outlast_plain_variants(p_variants jsonb) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return case when jsonb_typeof(p_variants) = 'array' and p_variants <> '[]' then (
    select jsonb_agg(v.value - 'md5' order by v.ordinality)
    from jsonb_array_elements(p_variants) with ordinality v) end;
end $$;

-- The files, and the objects of their variants in the same form, for checks of all objects.
create or replace function public.outlast_with_variants(p_files jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  if not jsonb_path_exists(p_files, '$[*].variants[*].path') then
    return p_files;
  end if;
  return (select p_files || jsonb_agg(v.value || jsonb_build_object('bucket', f.value -> 'bucket'))
    from jsonb_array_elements(p_files) f, jsonb_array_elements(nullif(f.value -> 'variants', 'null')) v);
end $$;

-- Inserts or locks the objects of the variants that files get, and of those that they had, in one statement and in one
-- order. Raises SQLSTATE OL001 when one of them is being deleted. The trigger of outlast_files counts the references.
create or replace function public.outlast_lock_variants(
  p_binding text, p_generation_id text, p_user_id text, p_files jsonb
) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_deleting boolean;
begin
  with wanted as (
    select f.value ->> 'bucket' as bucket, v.value as variant
    from jsonb_array_elements(p_files) f, jsonb_array_elements(coalesce(nullif(f.value -> 'variants', 'null'), '[]')) v
    where v.value ->> 'path' is distinct from f.value ->> 'path'
    union all
    select f.bucket, v.value from public.outlast_files f, jsonb_array_elements(f.variants) v
    where f.binding = p_binding and f.generation_id = p_generation_id and f.variants is not null
      and v.value ->> 'path' is distinct from f.path
  ), locked as (
    insert into public.outlast_objects as o (bucket, path, user_id, sha256, file_size, content_type)
      select distinct on (w.bucket, w.variant ->> 'path') w.bucket, w.variant ->> 'path', p_user_id,
        w.variant ->> 'sha256', (w.variant ->> 'file_size')::bigint, w.variant ->> 'content_type'
      from wanted w order by w.bucket, w.variant ->> 'path'
      on conflict on constraint outlast_objects_pkey do update set updated_at = clock_timestamp(),
        user_id = coalesce(o.user_id, excluded.user_id), sha256 = coalesce(o.sha256, excluded.sha256),
        file_size = coalesce(o.file_size, excluded.file_size),
        content_type = coalesce(o.content_type, excluded.content_type)
      returning o.state
  )
  select bool_or(state = 'deleting') into v_deleting from locked;
  if v_deleting then
    raise exception 'an object is being deleted' using errcode = 'OL001';
  end if;
end $$;

-- Locks the objects of these variants, in order, and counts their references again.
create or replace function public.outlast_recount_variants(p_buckets text[], p_paths text[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if p_paths is null then
    return;
  end if;
  perform from public.outlast_objects o
    where (o.bucket, o.path) in (select * from unnest(p_buckets, p_paths)) order by o.bucket, o.path for update;
  update public.outlast_objects o set updated_at = clock_timestamp(),
      refs = public.outlast_variant_refs(o.bucket, o.path) + (
        select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path)
    where (o.bucket, o.path) in (select * from unnest(p_buckets, p_paths));
end $$;

-- Locks the objects of the variants of the files of these deletions, in order.
create or replace function public.outlast_lock_variants_of(p_deletions bigint[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform from public.outlast_objects o where (o.bucket, o.path) in (
      select f.bucket, v.path from public.outlast_files f
      join public.outlast_deletions d on d.binding = f.binding and d.generation_id = f.generation_id,
        unnest(public.outlast_variant_paths(f.variants, f.path)) v (path)
      where d.id = any (p_deletions) and f.variants is not null
    ) order by o.bucket, o.path for update;
end $$;

-- Whether Storage has every variant of the file.
create or replace function public.outlast_has_variants(p_bucket text, p_path text, p_variants jsonb) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return not exists (select from unnest(public.outlast_variant_paths(p_variants, p_path)) v (path)
    where not public.outlast_in_storage(p_bucket, v.path));
end $$;

-- The variants in the name of a profile; empty for none.
create or replace function public.outlast_variants_of(p_profile text) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return coalesce(substr(p_profile, length(split_part(p_profile, '+', 1)) + 2), '');
end $$;

-- The variants of a picture that becomes the object `p_new`: those that are the picture itself become that object.
create or replace function public.outlast_moved_variants(p_variants jsonb, p_path text, p_new jsonb)
returns jsonb language plpgsql immutable security definer set search_path = '' as $$
begin
  if p_variants is null then
    return null;
  end if;
  return (select jsonb_agg(case when v.value ->> 'path' = p_path then v.value || jsonb_build_object(
      'path', p_new -> 'path', 'sha256', p_new -> 'sha256', 'file_size', p_new -> 'file_size',
      'content_type', p_new -> 'content_type') else v.value end
      order by v.ordinality)
    from jsonb_array_elements(p_variants) with ordinality v);
end $$;

-- The profile of a job: the binding's variants replace those of the settings, unless the job itself requests some.
create or replace function public.outlast_profile_of(b public.outlast_bindings, p_job jsonb) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return case when b.variants is null or (p_job ->> 'own_variants')::boolean then p_job ->> 'profile'
    else split_part(p_job ->> 'profile', '+', 1) || coalesce('+' || nullif(b.variants, ''), '') end;
end $$;

-- What a binding says about new files: the bucket, the folders, the variants; empty if it says nothing.
create or replace function public.outlast_place(b public.outlast_bindings, p_generation_id text, p_user_id text)
returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return case when num_nonnulls(b.bucket, b.object_path, b.variants) = 0 then '{}'
    else jsonb_build_object('bucket', b.bucket, 'variants', b.variants,
      'folders', public.outlast_folders(b.name, p_generation_id, p_user_id)) end;
end $$;

revoke all on function public.outlast_variant_paths(jsonb, text), public.outlast_variant_refs(text, text),
  public.outlast_plain_variants(jsonb), public.outlast_with_variants(jsonb),
  public.outlast_lock_variants(text, text, text, jsonb), public.outlast_recount_variants(text[], text[]),
  public.outlast_lock_variants_of(bigint[]), public.outlast_has_variants(text, text, jsonb),
  public.outlast_variants_of(text), public.outlast_moved_variants(jsonb, text, jsonb),
  public.outlast_profile_of(public.outlast_bindings, jsonb),
  public.outlast_place(public.outlast_bindings, text, text)
  from public, anon, authenticated, service_role;
