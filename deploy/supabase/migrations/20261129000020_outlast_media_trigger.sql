-- Outlast 20: only Outlast and trusted roles write `media` and `media_status` of the generations table.

select public.outlast_start_change();

-- Trigger function: only the owners of the table and of this function, and roles that bypass row-level security
-- (service_role, postgres), write `media` and `media_status`. For others, an update keeps the old values and an insert
-- gets the defaults; no statement fails. Not security definer: current_user is the role that executes the statement.
create or replace function public.outlast_keep_media() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_defaults text;
begin
  if old.media is not distinct from new.media and old.media_status is not distinct from new.media_status then
    return new;  -- `old` is null in an insert
  elsif exists (select from pg_catalog.pg_roles where rolname = current_user and (rolsuper or rolbypassrls))
    or exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
      join pg_catalog.pg_class c on c.oid = t.tgrelid where c.oid = tg_relid and t.tgname = tg_name
        and (pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
             or pg_catalog.pg_has_role(current_user, p.proowner, 'usage')))
  then
    return new;
  elsif tg_op = 'UPDATE' then
    new.media := old.media;
    new.media_status := old.media_status;
    return new;
  end if;
  select string_agg(coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), case
      when not a.attnotnull then 'null' when a.attname = 'media' then '''[]''' else '''pending''' end), ', '
      order by a.attname)
    into v_defaults
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = tg_relid and a.attname in ('media', 'media_status') and not a.attisdropped;
  execute 'select ' || v_defaults into new.media, new.media_status;
  return new;
exception when others then
  raise warning 'outlast: media and media_status are not protected: % (SQLSTATE %)', sqlerrm, sqlstate;
  return new;
end $$;

-- The trigger of the bound table. A WHEN condition would keep the table's owner from dropping the columns.
create or replace function public.outlast_media_trigger(out name text, out rel regclass, out definition text)
returns setof record language sql stable security definer set search_path = '' as $$
  select 'outlast_keep_media', g.rel, format(
    'before insert or update on %s for each row execute function public.outlast_keep_media()', g.rel)
  from public.outlast_generations() g
  where (select count(*) = 2 from pg_attribute
    where attrelid = g.rel and attname in ('media', 'media_status') and not attisdropped)
$$;

-- Creates the triggers that are missing, disabled or were created for other settings, and drops the media trigger of a
-- table that is no longer bound. Each trigger's comment holds its definition. What is in place is not locked.
create or replace function public.outlast_install_triggers() returns void
language plpgsql security definer set search_path = '' as $$
declare
  w record;
begin
  for w in select t.tgname as name, t.tgrelid::regclass as rel from pg_trigger t
      where t.tgfoid = 'public.outlast_keep_media'::regproc and t.tgparentid = 0
        and t.tgrelid is distinct from (select g.rel from public.outlast_generations() g) loop
    perform public.outlast_lock_tables(w.rel);
    execute format('drop trigger %I on %s', w.name, w.rel);
  end loop;
  for w in select * from public.outlast_triggers_wanted() union all select * from public.outlast_media_trigger() loop
    if not exists (select from pg_trigger t where t.tgrelid = w.rel and t.tgname = w.name
        and t.tgenabled in ('O', 'A') and obj_description(t.oid, 'pg_trigger') = w.definition) then
      perform public.outlast_lock_tables(w.rel);
      execute format('drop trigger if exists %I on %s', w.name, w.rel);
      execute format('create trigger %I %s', w.name, w.definition);
      execute format('comment on trigger %I on %s is %L', w.name, w.rel, w.definition);
    end if;
  end loop;
end $$;

revoke all on function public.outlast_keep_media(), public.outlast_media_trigger(), public.outlast_install_triggers()
  from public, anon, authenticated, service_role;

select public.outlast_install_triggers() from public.outlast_generations() where rel is not null;

insert into public.outlast_settings (key, value) values ('version', '20261129000020')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
