-- Removes Outlast from a database: triggers, the sweep's index, policies, publication entries, functions, and the
-- secret in Vault. Outlast's tables and the `media` columns stay, so that no data is lost; 2_outlast_data.sql removes
-- them. It can be run again, and the migrations can be applied again afterwards. If other objects of the database
-- depend on those of Outlast, an error names them and nothing is changed.
do $$
declare
  v record;
begin
  if to_regprocedure('public.outlast_lock_tables(regclass)') is not null then
    perform public.outlast_lock_tables();  -- all at once, so that nothing below waits while it holds a lock
  end if;
  for v in select t.tgname, t.tgrelid::regclass as rel from pg_trigger t join pg_proc p on p.oid = t.tgfoid
      where p.pronamespace = 'public'::regnamespace and starts_with(p.proname, 'outlast_') and not t.tgisinternal
        and t.tgparentid = 0 loop
    execute format('drop trigger %I on %s', v.tgname, v.rel);
  end loop;
  for v in select oid::regclass as name from pg_class 
      where relname ~ '^outlast_unheard' and relkind in ('i', 'I') and not relispartition loop
    execute format('drop index %s', v.name);
  end loop;
  for v in select policyname, schemaname, tablename from pg_policies
      where schemaname = 'public' and starts_with(tablename, 'outlast_') loop
    execute format('drop policy %I on %I.%I', v.policyname, v.schemaname, v.tablename);
  end loop;
  if to_regclass('storage.objects') is not null then
    drop policy if exists "outlast: users read their own folder" on storage.objects;
  end if;
  for v in select tablename from pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and starts_with(tablename, 'outlast_')
        and not (select puballtables from pg_publication where pubname = 'supabase_realtime') loop
    execute format('alter publication supabase_realtime drop table public.%I', v.tablename);
  end loop;
  for v in select oid::regprocedure as name from pg_proc
      where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_') loop
    execute format('drop function %s', v.name);
  end loop;
  if to_regclass('vault.secrets') is not null then
    execute 'delete from vault.secrets where name = ''outlast_webhook_secret''';
  end if;
end $$;

notify pgrst, 'reload schema';
