-- Outlast 16: variants, the smaller versions of a picture. `variants` of outlast_files lists them: name, path, size,
-- hash and shape of each. They are objects in the bucket of the picture, and count as references like the picture
-- itself. A variant that needs no pixels of its own is the picture, and has its path.
--
-- Lock order in all functions: task, generation, objects of variants by (bucket, path), other objects by (bucket, path),
-- the generation's row.

select public.outlast_start_change();

select public.outlast_add_index('outlast_files_variants',
  'outlast_files using gin (variants jsonb_path_ops) where variants is not null');

-- Trigger function: counts the references of the variants that a file has or had. The caller has locked their objects.
create or replace function public.outlast_count_variants() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.outlast_objects o set updated_at = clock_timestamp(),
      refs = public.outlast_variant_refs(o.bucket, o.path) + (
        select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path)
    where (o.bucket = new.bucket and o.path = any (public.outlast_variant_paths(new.variants, new.path)))
      or (tg_op = 'UPDATE' and o.bucket = old.bucket
          and o.path = any (public.outlast_variant_paths(old.variants, old.path)));
  return null;
end $$;

select public.outlast_add_trigger('public.outlast_files', 'outlast_files_variants_new',
  'after insert on public.outlast_files for each row when (new.variants is not null)
   execute function public.outlast_count_variants()');
select public.outlast_add_trigger('public.outlast_files', 'outlast_files_variants_changed',
  'after update on public.outlast_files for each row when (
     (old.variants, old.bucket, old.path) is distinct from (new.variants, new.bucket, new.path)
     and (old.variants is not null or new.variants is not null))
   execute function public.outlast_count_variants()');

-- A worker is about to upload these objects: the picture and its variants. As `outlast_claim`, for all of them.
create or replace function public.outlast_claim_all(p_bucket text, p_paths text[], p_user_id text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_states text[] := array(select public.outlast_claim(p_bucket, p.path, p_user_id) ->> 'state'
    from (select distinct unnest(p_paths) order by 1) p (path));
begin
  return jsonb_build_object('state', case when 'deleting' = any (v_states) then 'deleting' else 'live' end);
end $$;

revoke all on function public.outlast_count_variants() from public, anon, authenticated, service_role;
revoke all on function public.outlast_claim_all(text, text[], text) from public, anon, authenticated;
grant execute on function public.outlast_claim_all(text, text[], text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000016')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
